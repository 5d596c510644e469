#include "retina.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "network.hpp"
#include "retina_constants.hpp"

namespace spikehead {
namespace {

constexpr bool at_least(int part, const int (&share)[2], int whole) { return part * share[1] >= whole * share[0]; }

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
// second darkest and the second brightest. Returns true for a noisy one.
bool despeckle(const std::uint8_t* image, std::uint8_t* clean) {
  constexpr int kPadded = kSide + 2;
  // Edges are repeated.
  std::uint8_t padded[(kSide + 2) * kPadded];
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
  // At most two a row and lane: no byte overflows.
  Lanes specks{};
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
  const bool noisy = total >= kSpecks;
  if (noisy) std::memcpy(clean, strict, sizeof strict);
  return noisy;
}

// The frame's median, and true for an even frame.
struct Frame {
  int median = 0;
  bool even = true;
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
  std::uint8_t low = 255;
  for (const std::uint8_t level : margin) low = std::min(low, level);
  int lowest = 0;
  for (const std::uint8_t level : margin) lowest += level == low;
  Frame frame{low, true};
  // On plain paper the lowest level is the median.
  if (lowest <= kTotal / 2) {
    std::nth_element(margin, margin + kTotal / 2, margin + kTotal);
    frame.median = margin[kTotal / 2];
  }
  int near = 0;
  for (const std::uint8_t level : margin) near += std::abs(level - frame.median) <= kEven;
  frame.even = at_least(near, kEvenShare, kTotal);
  return frame;
}

using Line = std::array<int, kSide>;
using Surface = std::array<std::uint8_t, kPixels>;

// Median over three lines and five pixels along them; `at(depth, place)` reads a pixel.
template <class At>
Line edge(At&& at) {
  constexpr int kHalf = kMarginWindow / 2, kSize = kMargin * kMarginWindow;
  Line result{};
  std::uint8_t darkest = 255, brightest = 0;
  for (int depth = 0; depth < kMargin; ++depth) {
    for (int place = 0; place < kSide; ++place) {
      darkest = std::min<std::uint8_t>(darkest, at(depth, place));
      brightest = std::max<std::uint8_t>(brightest, at(depth, place));
    }
  }
  // Plain paper, as most margins are.
  if (darkest == brightest) {
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

// The four edges of a picture, each along itself.
struct Edges {
  Line top, bottom, left, right;
};

Edges edges_of(const std::uint8_t* clean) {
  return {edge([&](int depth, int place) { return clean[depth * kSide + place]; }),
          edge([&](int depth, int place) { return clean[(kSide - kMargin + depth) * kSide + place]; }),
          edge([&](int depth, int place) { return clean[place * kSide + depth]; }),
          edge([&](int depth, int place) { return clean[place * kSide + kSide - kMargin + depth]; })};
}

// Continues the margin inwards: the Coons patch of the edges, whose corners are the ends of the rows or the columns.
Surface coons_patch(const Edges& edges, bool corners_of_rows) {
  constexpr int kLast = kSide - 1;
  const auto& [top, bottom, left, right] = edges;
  const std::array<int, 4> corner = corners_of_rows ? std::array<int, 4>{top[0], top[kLast], bottom[0], bottom[kLast]}
                                                    : std::array<int, 4>{left[0], right[0], left[kLast], right[kLast]};
  Surface result{};
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const int rows = (kLast - y) * top[x] + y * bottom[x];
      const int columns = (kLast - x) * left[y] + x * right[y];
      const int corners =
          (kLast - y) * ((kLast - x) * corner[0] + x * corner[1]) + y * ((kLast - x) * corner[2] + x * corner[3]);
      // C++ rounds towards 0 and Python down: alike here, since negative levels become 0.
      const int level = std::clamp((kLast * (rows + columns) - corners) / (kLast * kLast), 0, 255);
      result[y * kSide + x] = static_cast<std::uint8_t>(level);
    }
  }
  return result;
}

using Sums = std::array<int, kPixels>;

// Sums over the window around each pixel, as far as it is in the picture.
Sums window_sum(const Sums& values, int radius) {
  Sums rows{}, result{};
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      for (int near = std::max(x - radius, 0); near <= std::min(x + radius, kSide - 1); ++near) {
        rows[y * kSide + x] += values[y * kSide + near];
      }
    }
  }
  for (int y = 0; y < kSide; ++y) {
    for (int near = std::max(y - radius, 0); near <= std::min(y + radius, kSide - 1); ++near) {
      for (int x = 0; x < kSide; ++x) result[y * kSide + x] += rows[near * kSide + x];
    }
  }
  return result;
}

// Corrects the guess at the background by the paper between the strokes.
void see_between_strokes(const std::uint8_t* clean, Surface& guess) {
  int largest = 0;
  for (int i = 0; i < kPixels; ++i) largest = std::max(largest, std::abs(clean[i] - guess[i]));
  Sums paper{}, above{};
  for (int i = 0; i < kPixels; ++i) {
    const int away = clean[i] - guess[i];
    paper[i] = !at_least(std::abs(away), kInkShare, largest);
    // Never negative, as in Python.
    above[i] = paper[i] * (away + 255);
  }
  bool done[kPixels] = {};
  for (const int radius : kPaperRadii) {
    const Sums count = window_sum(paper, radius), total = window_sum(above, radius);
    bool all = true;
    for (int i = 0; i < kPixels; ++i) {
      if (!done[i] && count[i]) {
        guess[i] = static_cast<std::uint8_t>(std::clamp(guess[i] + total[i] / count[i] - 255, 0, 255));
        done[i] = true;
      }
      all &= done[i];
    }
    if (all) return;
  }
}

// Estimates the picture without ink: the margin's median, or, if the margin is uneven, the guess that leaves least ink,
// corrected between the strokes.
Surface background(const std::uint8_t* clean, const Frame& frame) {
  Surface best;
  best.fill(static_cast<std::uint8_t>(frame.median));
  if (frame.even) return best;
  auto ink = [&](const Surface& guess) {
    int total = 0;
    for (int i = 0; i < kPixels; ++i) total += clean[i] > guess[i] ? clean[i] - guess[i] : guess[i] - clean[i];
    return total;
  };
  int least = kGuessWeights[0] * ink(best);
  const Edges edges = edges_of(clean);
  for (const bool corners_of_rows : {true, false}) {
    const Surface guess = coons_patch(edges, corners_of_rows);
    const int left = kGuessWeights[corners_of_rows ? 1 : 2] * ink(guess);
    if (left >= least) continue;
    least = left;
    best = guess;
  }
  see_between_strokes(clean, best);
  return best;
}

// A picture with no ink around it, so that code that looks at neighbours needs no borders.
class Sheet {
 public:
  // Columns 28 to 31 are 0.
  static constexpr int kWide = 2 * kLanes;
  static_assert(kSide < kWide);

  std::uint8_t* row(int y) { return levels_.data() + kLanes + (y + 1) * kWide; }
  const std::uint8_t* row(int y) const { return levels_.data() + kLanes + (y + 1) * kWide; }

  int ink() const {
    int total = 0;
    for (const std::uint8_t level : levels_) total += level;
    return total;
  }

  int peak() const { return *std::max_element(levels_.begin(), levels_.end()); }

  // Dilates and erodes by `size` pixels: gaps that are narrower are closed.
  Sheet closed(int size) const {
    Sheet result = grown(size - 1).shrunk(size - 1);
    for (std::size_t i = 0; i < levels_.size(); ++i) result.levels_[i] = std::max(result.levels_[i], levels_[i]);
    return result;
  }

  // Erodes by 2 x 2 pixels, of which each is the first, or the last.
  Sheet shrunk(int times = 1, bool last = false) const {
    const int step = last ? -1 : 1;
    Sheet result = *this;
    for (int time = 0; time < times; ++time) {
      const Sheet before = result;
      for (int y = 0; y < kSide; ++y) {
        const std::uint8_t *one = before.row(y), *other = before.row(y + step);
        std::uint8_t* to = result.row(y);
        for (int x = 0; x < kWide; ++x)
          to[x] = std::min(std::min(one[x], one[x + step]), std::min(other[x], other[x + step]));
      }
    }
    return result;
  }

  // Dilates by 2 x 2 pixels, of which each is the last.
  Sheet grown(int times = 1) const {
    Sheet result = *this;
    for (int time = 0; time < times; ++time) {
      const Sheet before = result;
      for (int y = 0; y < kSide; ++y) {
        const std::uint8_t *one = before.row(y), *above = before.row(y - 1);
        std::uint8_t* to = result.row(y);
        for (int x = 0; x < kSide; ++x)
          to[x] = std::max(std::max(one[x], one[x - 1]), std::max(above[x], above[x - 1]));
      }
    }
    return result;
  }

 private:
  // With a row above, one below, and the bytes that are read before and behind them.
  std::array<std::uint8_t, (kSide + 2) * kWide + 2 * kLanes> levels_{};
};

bool any_reaches(const std::uint8_t* from, int stride) {
  bool any = false;
  for (int i = 0; i < kSide; ++i) any |= from[i * stride] >= kReaches;
  return any;
}

// Removes all that is thinner than 2 x 2 pixels if ink reaches two sides of the picture.
void remove_lines(Sheet& distance) {
  const int sides = any_reaches(distance.row(0), 1) + any_reaches(distance.row(kSide - 1), 1) +
                    any_reaches(distance.row(0), Sheet::kWide) + any_reaches(distance.row(0) + kSide - 1, Sheet::kWide);
  if (sides < 2) return;
  const Sheet opened = distance.shrunk().grown();
  if (at_least(opened.ink(), kKeptShare, distance.ink())) distance = opened;
}

// Thins strokes that are much wider than a pen's, from other sides each time.
void thin(Sheet& distance) {
  for (int time = 0; time < kThinnings; ++time) {
    if (!at_least(distance.shrunk(kThick - 1).ink(), kThickShare, distance.ink())) return;
    distance = distance.shrunk(1, time % 2 != 0);
  }
}

// Finds the paper that one gets to from outside the picture, from pixel to pixel by their sides.
std::array<bool, kPixels> outside_of(const Sheet& distance) {
  const int peak = distance.peak();
  std::array<bool, kPixels> reached{};
  std::array<int, kPixels> waiting;
  int count = 0;
  auto reach = [&](int y, int x) {
    if (y < 0 || y >= kSide || x < 0 || x >= kSide || reached[y * kSide + x]) return;
    const bool is_ink = distance.row(y)[x] * kFloorDivisor >= peak;
    if (is_ink) return;
    reached[y * kSide + x] = true;
    waiting[count++] = y * kSide + x;
  };
  for (int i = 0; i < kSide; ++i) reach(0, i), reach(kSide - 1, i), reach(i, 0), reach(i, kSide - 1);
  while (count) {
    const int y = waiting[--count] / kSide, x = waiting[count] % kSide;
    reach(y - 1, x), reach(y + 1, x), reach(y, x - 1), reach(y, x + 1);
  }
  return reached;
}

// Fills contours of strokes.
void fill_contours(Sheet& distance) {
  const int ink = distance.ink();
  if (at_least(distance.shrunk(2).ink(), kCoreShare, ink)) return;
  const std::array<bool, kPixels> outside = outside_of(distance);
  Sheet inside = distance.closed(kInsideClosing);
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      if (outside[y * kSide + x]) inside.row(y)[x] = distance.row(y)[x];
    }
  }
  for (const Sheet& filled : {inside, distance.closed(kClosing)}) {
    if (!at_least(filled.ink(), kClosedShare, ink)) continue;
    distance = filled;
    return;
  }
}

// Adds to each pixel of a blurred picture its height above its surround's mean.
void sharpen(Sheet& distance) {
  const int peak = distance.peak();
  int steepest = 0;
  for (int y = 0; y < kSide; ++y) {
    const std::uint8_t *one = distance.row(y), *below = distance.row(std::min(y + 1, kSide - 1));
    for (int x = 0; x < kSide - 1; ++x) steepest = std::max(steepest, std::abs(one[x] - one[x + 1]));
    for (int x = 0; x < kSide; ++x) steepest = std::max(steepest, std::abs(one[x] - below[x]));
  }
  if (at_least(steepest, kSteepShare, peak)) return;
  Sums levels{};
  for (int i = 0; i < kPixels; ++i) levels[i] = distance.row(i / kSide)[i % kSide];
  const Sums around = window_sum(levels, kSurround);
  constexpr int kArea = (2 * kSurround + 1) * (2 * kSurround + 1);
  for (int i = 0; i < kPixels; ++i) {
    const int sharp = std::clamp((2 * kArea * levels[i] - around[i]) / kArea, 0, 255);
    distance.row(i / kSide)[i % kSide] = static_cast<std::uint8_t>(sharp);
  }
}

}  // namespace

void see_contrast(const std::uint8_t* image, std::uint8_t* contrast) {
  std::uint8_t clean[kPixels], distance[kPixels];
  const bool noisy = despeckle(image, clean);
  const Frame frame = frame_of(clean);
  const Surface paper = background(clean, frame);
  Sheet sheet;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const std::uint8_t pixel = clean[y * kSide + x], ground = paper[y * kSide + x];
      sheet.row(y)[x] = static_cast<std::uint8_t>(std::max(pixel, ground) - std::min(pixel, ground));
    }
  }
  if (frame.even && !noisy) remove_lines(sheet);
  thin(sheet);
  fill_contours(sheet);
  sharpen(sheet);
  for (int y = 0; y < kSide; ++y) std::memcpy(distance + y * kSide, sheet.row(y), kSide);
  const int peak = sheet.peak();
  // floor(distance * 255 / peak) in 16 bits: with the reciprocal rounded down the quotient is at most one too small.
  const auto whole = static_cast<std::uint16_t>(std::max(peak, kMinPeak));
  const auto reciprocal = static_cast<std::uint16_t>(65536 / whole);
  const auto faintest = static_cast<std::uint8_t>((peak + kFloorDivisor - 1) / kFloorDivisor);
  for (int i = 0; i < kPixels; ++i) {
    const auto scaled = static_cast<std::uint16_t>(distance[i] >= faintest ? distance[i] * 255 : 0);
    const auto quotient = static_cast<std::uint16_t>(static_cast<std::uint32_t>(scaled) * reciprocal >> 16);
    const auto rest = static_cast<std::uint16_t>(scaled - quotient * whole);
    contrast[i] = static_cast<std::uint8_t>(quotient + (rest >= whole));
  }
}

}  // namespace spikehead
