// Vectors of the instruction set that this file is compiled for. The width follows the registers: wider vector
// types than the machine has compile to slow code.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BW__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

namespace spikehead {
namespace {  // each instruction set's file has its own

#if defined(__AVX512BW__)
constexpr int kWidth = 64;
#elif defined(__AVX2__)
constexpr int kWidth = 32;
#else
constexpr int kWidth = 16;
#endif

constexpr int kSums = kWidth == 64 ? 24 : 12;  // vectors that a loop may sum up in registers, with some to spare

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kWidth)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kWidth / static_cast<int>(sizeof(T));

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, __builtin_assume_aligned(from, kWidth), sizeof v);
  return v;
}

template <class T>
inline void store(T* to, const Vector<T>& v) {
  std::memcpy(__builtin_assume_aligned(to, kWidth), &v, sizeof v);
}

template <class T>
inline Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

// Fires the neurons whose v >= threshold; their v becomes 0. Returns their spikes, one bit for each neuron in order.
template <class T, int N>
inline std::uint64_t fire(Vector<T> (&v)[N], const Vector<T> (&threshold)[N]) {
  static_assert(N * kLanes<T> <= 64);
  std::uint64_t spikes = 0;
#if defined(__AVX512BW__)
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    if constexpr (sizeof(T) == 2) {
      const __mmask32 fired = _mm512_cmpge_epi16_mask((__m512i)v[i], (__m512i)threshold[i]);
      v[i] = (Vector<T>)_mm512_maskz_mov_epi16(~fired, (__m512i)v[i]);
      spikes |= static_cast<std::uint64_t>(fired) << i * kLanes<T>;
    } else {
      const __mmask16 fired = _mm512_cmpge_epi32_mask((__m512i)v[i], (__m512i)threshold[i]);
      v[i] = (Vector<T>)_mm512_maskz_mov_epi32(static_cast<__mmask16>(~fired), (__m512i)v[i]);
      spikes |= static_cast<std::uint64_t>(fired) << i * kLanes<T>;
    }
  }
#else
  // A lane holds all bits if its neuron stays quiet, none if it fires.
  decltype(v[0] < threshold[0]) quiet[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    quiet[i] = v[i] < threshold[i];
    v[i] &= (Vector<T>)quiet[i];
  }
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 2) {
#pragma GCC unroll 8
    for (int i = 0; i < N; i += 2) {  // packing two vectors interleaves their halves
      const auto packed = _mm256_packs_epi16((__m256i)quiet[i], (__m256i)quiet[i + 1 < N ? i + 1 : i]);
      const auto bits = static_cast<std::uint32_t>(~_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xd8)));
      spikes |= static_cast<std::uint64_t>(N == 1 ? bits & 0xffff : bits) << i * kLanes<T>;
    }
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const auto bits = static_cast<std::uint32_t>(~_mm256_movemask_ps((__m256)quiet[i])) & 0xff;
      spikes |= static_cast<std::uint64_t>(bits) << i * kLanes<T>;
    }
  }
#elif defined(__SSE2__)
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    std::uint32_t bits;
    if constexpr (sizeof(T) == 2) {
      bits =
          static_cast<std::uint32_t>(~_mm_movemask_epi8(_mm_packs_epi16((__m128i)quiet[i], (__m128i)quiet[i]))) & 0xff;
    } else {
      bits = static_cast<std::uint32_t>(~_mm_movemask_ps((__m128)quiet[i])) & 0xf;
    }
    spikes |= static_cast<std::uint64_t>(bits) << i * kLanes<T>;
  }
#else
  for (int i = 0; i < N; ++i) {
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      spikes |= std::uint64_t{quiet[i][lane] == 0} << (i * kLanes<T> + lane);
    }
  }
#endif
#endif
  return spikes;
}

// Calls f with a number of vectors known at compile time, at most `Most` (8, 4, 2 or 1), until `total` vectors are
// done: f<count>(first).
template <int Most = 8, class F>
inline void in_chunks(int total, F&& f) {
  int at = 0;
  for (; total - at >= Most; at += Most) f.template operator()<Most>(at);
  if constexpr (Most > 4)
    if (total - at >= 4) {
      f.template operator()<4>(at);
      at += 4;
    }
  if constexpr (Most > 2)
    if (total - at >= 2) {
      f.template operator()<2>(at);
      at += 2;
    }
  if constexpr (Most > 1)
    if (total - at >= 1) f.template operator()<1>(at);
}

}  // namespace
}  // namespace spikehead
