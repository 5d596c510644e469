#include "encoder.hpp"

#include <bit>
#include <cstring>

namespace spikehead {
namespace {

constexpr int kBlocksPerStep = 26;
constexpr int kWords = 4 * kBlocksPerStep;
constexpr int kPixelWords = kPixels / 8;

// Philox4x64 with 10 rounds. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.
void philox(std::uint64_t counter, std::uint64_t seed, std::uint64_t* out) {
  std::uint64_t c0 = counter, c1 = 0, c2 = 0, c3 = 0, k0 = seed, k1 = 0;
  for (int round = 0; round < 10; ++round) {
    const auto p0 = static_cast<unsigned __int128>(0xD2E7470EE14C6C93u) * c0;
    const auto p1 = static_cast<unsigned __int128>(0xCA5A826395121157u) * c2;
    c0 = static_cast<std::uint64_t>(p1 >> 64) ^ c1 ^ k0;
    c1 = static_cast<std::uint64_t>(p1);
    c2 = static_cast<std::uint64_t>(p0 >> 64) ^ c3 ^ k1;
    c3 = static_cast<std::uint64_t>(p0);
    k0 += 0x9E3779B97F4A7C15u;
    k1 += 0xBB67AE8584CAA73Bu;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

}  // namespace

Encoder::Encoder(const std::uint8_t* contrast, std::uint64_t seed, bool regular, int slope)
    : seed_(seed), regular_(regular) {
  for (int i = 0; i < kPixels; ++i) {
    const int level = contrast[i] + (contrast[i] >> 7);
    const int rate = 128 + slope * (level - 128);
    rates_[i] = static_cast<std::uint16_t>(rate < 0 ? 0 : rate > 256 ? 256 : rate);
    lit_[i] = rates_[i] != 0;
    last_[i] = static_cast<std::uint8_t>(rates_[i] - lit_[i]);
  }
}

void Encoder::step(std::uint8_t* spikes, float* uniforms) {
  std::uint64_t words[kWords];
  for (int block = 0; block < kBlocksPerStep; ++block) philox(++counter_, seed_, words + 4 * block);
  if (regular_) {
    for (int i = 0; i < kPixels; ++i) {
      const std::int64_t due = (time_ * rates_[i] + 128) / 256;
      spikes[i] = static_cast<std::uint8_t>(((time_ + 1) * rates_[i] + 128) / 256 - due);
    }
  } else {
    std::uint8_t draws[kPixels];
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(draws, words, kPixels);
    } else {
      for (int i = 0; i < kPixels; ++i) draws[i] = static_cast<std::uint8_t>(words[i / 8] >> (8 * (i % 8)));
    }
    // draw < rate, on bytes: a rate of 0 never fires, and one of 256 stands as 255 in `last_`
    for (int i = 0; i < kPixels; ++i) spikes[i] = (draws[i] <= last_[i]) & lit_[i];
  }
  for (int k = 0; k < kClasses; ++k) {
    const auto half = static_cast<std::uint32_t>(words[kPixelWords + k / 2] >> (32 * (k % 2)));
    uniforms[k] = static_cast<float>(half >> 8) * 0x1p-24f;
  }
  ++time_;
}

}  // namespace spikehead
