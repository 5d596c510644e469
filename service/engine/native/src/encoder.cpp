#include "encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace spikehead {
namespace {

constexpr int kMargin = 3;
constexpr int kSpeck = 64;
constexpr int kSpecks = 8;
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

typedef std::uint8_t Lanes __attribute__((vector_size(16)));
constexpr int kLanes = sizeof(Lanes);

inline Lanes lanes_at(const std::uint8_t* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
inline void put(std::uint8_t* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof lanes); }
inline Lanes least(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes most(Lanes a, Lanes b) { return a > b ? a : b; }

// Clamps each pixel between the darkest and the brightest of its eight neighbours; in a noisy picture, between the
// second darkest and the second brightest.
void despeckle(const std::uint8_t* image, std::uint8_t* clean) {
  constexpr int kPadded = kSide + 2;
  std::uint8_t padded[(kSide + 2) * kPadded];  // edges repeated
  for (int y = 0; y < kSide + 2; ++y) {
    const std::uint8_t* from = image + std::clamp(y - 1, 0, kSide - 1) * kSide;
    std::uint8_t* to = padded + y * kPadded;
    to[0] = from[0];
    std::memcpy(to + 1, from, kSide);
    to[kSide + 1] = from[kSide - 1];
  }
  // A row is worked on in two vectors that overlap; what both hold counts once.
  constexpr int kSecond = kSide - kLanes;
  Lanes counted{};
  for (int lane = 0; lane < kLanes; ++lane) counted[lane] = lane >= kLanes - kSecond;
  std::uint8_t strict[kPixels];
  Lanes specks{};  // at most two a row and lane
  const int neighbours[] = {0, 1, 2, kPadded, kPadded + 2, 2 * kPadded, 2 * kPadded + 1, 2 * kPadded + 2};
  for (int y = 0; y < kSide; ++y) {
    for (const int x : {0, kSecond}) {
      const std::uint8_t* above = padded + y * kPadded + x;
      Lanes high1 = {}, high2 = {}, low1 = ~Lanes{}, low2 = ~Lanes{};
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const Lanes n = lanes_at(above + neighbours[i]);
        high2 = most(high2, least(high1, n));
        high1 = most(high1, n);
        low2 = least(low2, most(low1, n));
        low1 = least(low1, n);
      }
      const Lanes pixel = lanes_at(above + kPadded + 1);
      const Lanes second = least(most(pixel, low2), high2);
      const Lanes speck = most(pixel, second) - least(pixel, second) >= Lanes{} + kSpeck;
      specks += speck & (x ? counted : Lanes{} + 1);
      put(clean + y * kSide + x, least(most(pixel, low1), high1));
      put(strict + y * kSide + x, second);
    }
  }
  int total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += specks[lane];
  if (total >= kSpecks) std::memcpy(clean, strict, sizeof strict);
}

// Median of the frame, and whether it is uneven.
struct Frame {
  int median = 0;
  bool uneven = false;
};

Frame frame_of(const std::uint8_t* clean) {
  constexpr int kInner = kSide - 2 * kMargin, kTotal = kPixels - kInner * kInner, kEdge = kMargin * kSide;
  std::uint8_t margin[kTotal];
  std::uint8_t* next = std::copy_n(clean, kEdge, margin);
  next = std::copy_n(clean + kPixels - kEdge, kEdge, next);
  for (int y = kMargin; y < kSide - kMargin; ++y) {
    const std::uint8_t* row = clean + y * kSide;
    next = std::copy_n(row, kMargin, next);
    next = std::copy_n(row + kSide - kMargin, kMargin, next);
  }
  std::uint8_t low = 255, high = 0;
  for (const std::uint8_t level : margin) low = std::min(low, level), high = std::max(high, level);
  int lowest = 0;
  for (const std::uint8_t level : margin) lowest += level == low;
  const bool uneven = high - low > kEven;
  if (lowest > kTotal / 2) return {low, uneven};  // as on plain paper
  std::nth_element(margin, margin + kTotal / 2, margin + kTotal);
  return {margin[kTotal / 2], uneven};
}

using Line = std::array<int, kSide>;
using Surface = std::array<std::uint8_t, kPixels>;

// Median over three lines and five pixels along them; `at(depth, place)` reads a pixel.
template <class At>
Line edge(At&& at) {
  constexpr int kHalf = 2, kSize = 3 * (2 * kHalf + 1);
  Line result{};
  std::uint8_t darkest = 255, brightest = 0;
  for (int depth = 0; depth < kMargin; ++depth) {
    for (int place = 0; place < kSide; ++place) {
      darkest = std::min<std::uint8_t>(darkest, at(depth, place));
      brightest = std::max<std::uint8_t>(brightest, at(depth, place));
    }
  }
  if (darkest == brightest) {  // plain paper, as most margins are
    result.fill(darkest);
    return result;
  }
  for (int place = 0; place < kSide; ++place) {
    std::uint8_t window[kSize], low = 255, high = 0;
    int size = 0;
    for (int depth = 0; depth < kMargin; ++depth) {
      for (int step = -kHalf; step <= kHalf; ++step) {
        const std::uint8_t level = at(depth, std::clamp(place + step, 0, kSide - 1));
        window[size++] = level;
        low = std::min(low, level);
        high = std::max(high, level);
      }
    }
    if (low != high) std::nth_element(window, window + kSize / 2, window + kSize);
    result[place] = window[kSize / 2];
  }
  return result;
}

// The margin continued inwards: the Coons patch of the four edges.
Surface continued_margin(const std::uint8_t* clean) {
  constexpr int kLast = kSide - 1;
  const Line top = edge([&](int depth, int place) { return clean[depth * kSide + place]; });
  const Line bottom = edge([&](int depth, int place) { return clean[(kSide - kMargin + depth) * kSide + place]; });
  const Line left = edge([&](int depth, int place) { return clean[place * kSide + depth]; });
  const Line right = edge([&](int depth, int place) { return clean[place * kSide + kSide - kMargin + depth]; });
  const int corner[] = {(top[0] + left[0]) / 2, (top[kLast] + right[0]) / 2, (bottom[0] + left[kLast]) / 2,
                        (bottom[kLast] + right[kLast]) / 2};
  Surface result{};
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const int rows = (kLast - y) * top[x] + y * bottom[x];
      const int columns = (kLast - x) * left[y] + x * right[y];
      const int corners = (kLast - y) * ((kLast - x) * corner[0] + x * corner[1]) +
                          y * ((kLast - x) * corner[2] + x * corner[3]);
      // Rounded towards 0 where Python rounds down: alike, since what is negative becomes 0.
      const int level = std::clamp((kLast * (rows + columns) - corners) / (kLast * kLast), 0, 255);
      result[y * kSide + x] = static_cast<std::uint8_t>(level);
    }
  }
  return result;
}

// Median over 17 x 17 pixels (edges repeated), in steps of 16 grey levels, by threshold decomposition.
Surface local_median(const std::uint8_t* clean) {
  constexpr int kRadius = 8, kStep = 16, kArea = (2 * kRadius + 1) * (2 * kRadius + 1), kMajority = kArea / 2 + 1;
  constexpr int kWide = 3 * kLanes, kBack = kSide - kLanes;
  static_assert(kSide + 2 * kRadius <= kWide);
  // Columns are repeated at the edges; behind them is room for what whole vectors read.
  std::uint8_t wide[kSide * kWide];
  for (int y = 0; y < kSide; ++y) {
    const std::uint8_t* row = clean + y * kSide;
    std::memset(wide + y * kWide, row[0], kRadius);
    std::memcpy(wide + y * kWide + kRadius, row, kSide);
    std::memset(wide + y * kWide + kRadius + kSide, row[kSide - 1], kWide - kRadius - kSide);
  }
  Surface levels{};  // of how many each pixel has a majority around it
  for (int level = kStep / 2; level < 256; level += kStep) {
    const Lanes bound = Lanes{} + static_cast<std::uint8_t>(level);
    std::uint8_t lit[kSide * kWide];
    for (int i = 0; i < kSide * kWide; i += kLanes) put(lit + i, (lanes_at(wide + i) >= bound) & (Lanes{} + 1));
    // Lit pixels of the 17 rows around: at most 17 a column. Those of 2, 4 and 8 columns side by side follow.
    std::uint8_t column[kWide + kLanes] = {}, two[kWide + kLanes] = {}, four[kWide + kLanes] = {}, eight[kWide + kLanes] = {};
    auto row_of = [&](int y) { return lit + std::clamp(y, 0, kSide - 1) * kWide; };
    for (int y = -kRadius; y <= kRadius; ++y) {
      for (int x = 0; x < kWide; x += kLanes) put(column + x, lanes_at(column + x) + lanes_at(row_of(y) + x));
    }
    Lanes any{};
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kWide; x += kLanes) put(two + x, lanes_at(column + x) + lanes_at(column + x + 1));
      for (int x = 0; x < kWide; x += kLanes) put(four + x, lanes_at(two + x) + lanes_at(two + x + 2));
      for (int x = 0; x < kWide; x += kLanes) put(eight + x, lanes_at(four + x) + lanes_at(four + x + 4));
      std::uint8_t* counts = levels.data() + y * kSide;
      Lanes majority[2];
      for (int part = 0; part < 2; ++part) {
        // left + right >= kMajority, where the sum may not fit into 8 bits
        const int x = part * kBack;
        const Lanes left = lanes_at(eight + x), right = lanes_at(eight + x + 8) + lanes_at(column + x + 16);
        const Lanes most_wanted = Lanes{} + static_cast<std::uint8_t>(kMajority);
        majority[part] = (left >= most_wanted - least(right, most_wanted)) & (Lanes{} + 1);
        any |= majority[part];
      }
      const Lanes first = lanes_at(counts) + majority[0], second = lanes_at(counts + kBack) + majority[1];
      put(counts, first);
      put(counts + kBack, second);
      const std::uint8_t *next = row_of(y + kRadius + 1), *last = row_of(y - kRadius);
      for (int x = 0; x < kWide; x += kLanes) put(column + x, lanes_at(column + x) + lanes_at(next + x) - lanes_at(last + x));
    }
    std::uint64_t found[2];
    std::memcpy(found, &any, sizeof found);
    if (!(found[0] | found[1])) break;  // nor has any brighter level
  }
  for (std::uint8_t& level : levels) level = static_cast<std::uint8_t>(std::min(level * kStep, 255));
  return levels;
}

// What the picture would be without ink: the margin's median, or, where that is uneven, the guess that leaves least.
Surface background(const std::uint8_t* clean) {
  const Frame frame = frame_of(clean);
  Surface best;
  best.fill(static_cast<std::uint8_t>(frame.median));
  if (!frame.uneven) return best;
  auto ink = [&](const Surface& guess) {
    int total = 0;
    for (int i = 0; i < kPixels; ++i) total += clean[i] > guess[i] ? clean[i] - guess[i] : guess[i] - clean[i];
    return total;
  };
  int least = 4 * ink(best);
  auto consider = [&](const Surface& guess, int weight) {
    if (weight * ink(guess) >= least) return;
    least = weight * ink(guess);
    best = guess;
  };
  consider(continued_margin(clean), 5);
  consider(local_median(clean), 6);
  return best;
}

}  // namespace

void see_contrast(const std::uint8_t* image, std::uint8_t* contrast) {
  std::uint8_t clean[kPixels], distance[kPixels];
  despeckle(image, clean);
  const Surface paper = background(clean);
  Lanes brightest{};
  for (int i = 0; i < kPixels; i += kLanes) {
    const Lanes pixels = lanes_at(clean + i), ground = lanes_at(paper.data() + i);
    const Lanes away = most(pixels, ground) - least(pixels, ground);
    put(distance + i, away);
    brightest = most(brightest, away);
  }
  std::uint8_t peak = 0;
  for (int lane = 0; lane < kLanes; ++lane) peak = std::max<std::uint8_t>(peak, brightest[lane]);
  // floor(distance * 255 / peak) in 16 bits: with the reciprocal rounded down the quotient is at most one too small.
  const auto whole = static_cast<std::uint16_t>(std::max<int>(peak, kMinPeak));
  const auto reciprocal = static_cast<std::uint16_t>(65536 / whole);
  const auto faintest = static_cast<std::uint8_t>((peak + kFloorDivisor - 1) / kFloorDivisor);
  for (int i = 0; i < kPixels; ++i) {
    const auto scaled = static_cast<std::uint16_t>(distance[i] >= faintest ? distance[i] * 255 : 0);
    const auto quotient = static_cast<std::uint16_t>(static_cast<std::uint32_t>(scaled) * reciprocal >> 16);
    const auto rest = static_cast<std::uint16_t>(scaled - quotient * whole);
    contrast[i] = static_cast<std::uint8_t>(quotient + (rest >= whole));
  }
}

namespace {

bool has_frame(const std::uint8_t* image) {
  std::uint8_t any = 0;
  for (int i = 0; i < kSide; ++i) {
    any |= image[i] | image[kPixels - kSide + i] | image[i * kSide] | image[i * kSide + kSide - 1];
  }
  return any != 0;
}

}  // namespace

bool has_form(const std::uint8_t* image, const Form& form) {
  std::uint8_t contrast[kPixels];
  const std::uint8_t* seen = image;
  if (has_frame(image)) {
    see_contrast(image, contrast);
    seen = contrast;
  }
  std::array<std::int64_t, kSide> rows{}, columns{};
  int highest = 0;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const int value = seen[y * kSide + x];
      rows[y] += value;
      columns[x] += value;
      highest = value > highest ? value : highest;
    }
  }
  std::int64_t total = 0;
  for (const std::int64_t sum : rows) total += sum;
  if (!total) return false;
  for (const auto& sums : {rows, columns}) {
    std::int64_t moment = 0;
    for (int i = 0; i < kSide; ++i) moment += i * sums[i];
    const double away = static_cast<double>(moment) / static_cast<double>(total) - (kSide - 1) / 2.0;
    if (away > form.centred || -away > form.centred) return false;
  }
  if (has_frame(seen)) return true;
  int left = kSide, right = -1, top = kSide, bottom = -1;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      if (seen[y * kSide + x] <= highest / 4) continue;
      left = x < left ? x : left;
      right = x > right ? x : right;
      top = y < top ? y : top;
      bottom = y;
    }
  }
  const int width = right - left + 1, height = bottom - top + 1;
  const int longer = width > height ? width : height;
  return form.smallest <= longer && longer <= form.largest;
}

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
