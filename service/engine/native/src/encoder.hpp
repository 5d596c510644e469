// The retina and the rate encoder of `service.encoding`, to the bit.
#pragma once

#include <array>
#include <cstdint>

#include "network.hpp"

namespace spikehead {

// Brightness to contrast (`service.encoding.contrast`). [784] -> [784].
void see_contrast(const std::uint8_t* image, std::uint8_t* contrast);

// Spike trains and uniform numbers of one image, a time step at a call.
class Encoder {
 public:
  Encoder(const std::uint8_t* contrast, std::uint64_t seed, bool regular);
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
