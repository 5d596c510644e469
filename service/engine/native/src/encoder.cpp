#include "encoder.hpp"

#include <algorithm>

namespace spikehead {
namespace {

constexpr int kMargin = 3;
constexpr int kEven = 24;
constexpr int kMinPeak = 32;
constexpr int kFloorDivisor = 8;
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

// Clamps each pixel between the second darkest and the second brightest of its eight neighbours.
void despeckle(const std::uint8_t* image, std::uint8_t* clean) {
  constexpr int kRow = kSide + 2;
  std::uint8_t padded[kRow * kRow];  // edges repeated
  for (int y = 0; y < kRow; ++y) {
    const std::uint8_t* from = image + std::clamp(y - 1, 0, kSide - 1) * kSide;
    std::uint8_t* to = padded + y * kRow;
    to[0] = from[0];
    std::copy(from, from + kSide, to + 1);
    to[kSide + 1] = from[kSide - 1];
  }
  for (int y = 0; y < kSide; ++y) {
    std::uint8_t high1[kSide] = {}, high2[kSide] = {}, low1[kSide], low2[kSide];
    std::fill(low1, low1 + kSide, std::uint8_t{255});
    std::fill(low2, low2 + kSide, std::uint8_t{255});
    for (int dy = 0; dy < 3; ++dy) {
      for (int dx = 0; dx < 3; ++dx) {
        if (dy == 1 && dx == 1) continue;
        const std::uint8_t* neighbour = padded + (y + dy) * kRow + dx;
        for (int x = 0; x < kSide; ++x) {
          const std::uint8_t n = neighbour[x];
          high2[x] = std::max(high2[x], std::min(high1[x], n));
          high1[x] = std::max(high1[x], n);
          low2[x] = std::min(low2[x], std::max(low1[x], n));
          low1[x] = std::min(low1[x], n);
        }
      }
    }
    for (int x = 0; x < kSide; ++x) {
      clean[y * kSide + x] = std::min(std::max(image[y * kSide + x], low2[x]), high2[x]);
    }
  }
}

// Median of the frame, or -1 where it is uneven.
int even_margin(const std::uint8_t* clean) {
  std::uint8_t low = 255, high = 0;
  auto visit = [&](auto&& see) {
    for (int y = 0; y < kSide; ++y) {
      const std::uint8_t* row = clean + y * kSide;
      if (y < kMargin || y >= kSide - kMargin) {
        for (int x = 0; x < kSide; ++x) see(row[x]);
      } else {
        for (int x = 0; x < kMargin; ++x) see(row[x]), see(row[kSide - 1 - x]);
      }
    }
  };
  visit([&](std::uint8_t level) { low = std::min(low, level), high = std::max(high, level); });
  if (high - low > kEven) return -1;
  if (high == low) return low;
  int counts[kEven + 1] = {}, total = 0;
  visit([&](std::uint8_t level) { ++counts[level - low], ++total; });
  int seen = 0, level = 0;
  while (seen + counts[level] <= total / 2) seen += counts[level++];  // the value at index total / 2
  return low + level;
}

}  // namespace

bool see_contrast(const std::uint8_t* image, std::uint8_t* contrast) {
  std::uint8_t clean[kPixels];
  despeckle(image, clean);
  const int background = even_margin(clean);
  if (background < 0) return false;
  std::uint8_t distance[kPixels];
  int peak = 0;
  for (int i = 0; i < kPixels; ++i) {
    distance[i] = static_cast<std::uint8_t>(clean[i] > background ? clean[i] - background : background - clean[i]);
    peak = std::max<int>(peak, distance[i]);
  }
  // floor(distance * 255 / peak): half a unit more keeps the rounded quotient on the right side of every integer
  const float inverse = 1.0f / static_cast<float>(std::max(peak, kMinPeak));
  for (int i = 0; i < kPixels; ++i) {
    const int kept = distance[i] * kFloorDivisor >= peak ? distance[i] : 0;
    contrast[i] = static_cast<std::uint8_t>((static_cast<float>(kept * 255) + 0.5f) * inverse);
  }
  return true;
}

Encoder::Encoder(const std::uint8_t* contrast, std::uint64_t seed, bool regular) : seed_(seed), regular_(regular) {
  for (int i = 0; i < kPixels; ++i) rates_[i] = static_cast<std::uint16_t>(contrast[i] + (contrast[i] >> 7));
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
    for (int i = 0; i < kPixels; ++i) {
      const auto draw = static_cast<std::uint8_t>(words[i / 8] >> (8 * (i % 8)));
      spikes[i] = draw < rates_[i];
    }
  }
  for (int k = 0; k < kClasses; ++k) {
    const auto half = static_cast<std::uint32_t>(words[kPixelWords + k / 2] >> (32 * (k % 2)));
    uniforms[k] = static_cast<float>(half >> 8) * 0x1p-24f;
  }
  ++time_;
}

}  // namespace spikehead
