#include "mnist_form.hpp"

#include <array>

#include "network.hpp"
#include "retina.hpp"

namespace spikehead {
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

}  // namespace spikehead
