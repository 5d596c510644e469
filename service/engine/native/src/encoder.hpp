// The retina and the rate encoder of `service.encoding`, to the bit.
#pragma once

#include <array>
#include <cstdint>

#include "network.hpp"

namespace spikehead {

// Brightness to contrast (`service.encoding.contrast`). [784] -> [784].
void see_contrast(const std::uint8_t* image, std::uint8_t* contrast);

// Where a digit may lie in MNIST's form (`service.mnist_form`).
struct Form {
  double centred = 0.0;             // pixels between centre of mass and middle
  int smallest = 0, largest = 0;    // of the longer side
};

// Whether 28 x 28 pixels are in that form.
bool has_form(const std::uint8_t* image, const Form& form);

// Spike trains and uniform numbers of one image, a time step at a call.
class Encoder {
 public:
  // `slope` of the tuning curve, 1 to 16: see `service.encoding.rates`.
  Encoder(const std::uint8_t* contrast, std::uint64_t seed, bool regular, int slope);
  void step(std::uint8_t* spikes, float* uniforms);  // [784], [10]

 private:
  std::array<std::uint16_t, kPixels> rates_;  // in 1/256
  std::array<std::uint8_t, kPixels> last_, lit_;  // the last byte that fires, and whether any does
  std::uint64_t seed_;
  std::uint64_t counter_ = 0;
  std::int64_t time_ = 0;
  bool regular_;
};

}  // namespace spikehead
