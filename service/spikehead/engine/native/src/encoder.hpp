// The rate encoder of `spikehead.model.encoding`, to the bit.
#pragma once

#include <array>
#include <cstdint>

#include "network.hpp"

namespace spikehead {

// Spike trains and uniform numbers of one image, a time step at a call.
class Encoder {
 public:
  // `slope` of the tuning curve, 1 to 16: see `spikehead.model.encoding.firing_rates`.
  Encoder(const std::uint8_t* contrast, std::uint64_t seed, bool regular, int slope);
  void step(std::uint8_t* spikes, float* uniforms);  // [784], [10]

 private:
  std::array<std::uint16_t, kPixels> rates_;      // in 1/256
  std::array<std::uint8_t, kPixels> last_, lit_;  // the last byte that fires, and whether any does
  std::uint64_t seed_;
  std::uint64_t counter_ = 0;
  std::int64_t time_ = 0;
  bool regular_;
};

}  // namespace spikehead
