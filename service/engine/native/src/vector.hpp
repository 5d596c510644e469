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

// Fires where v >= threshold: a bit a lane; v becomes 0 there.
template <class T>
inline std::uint32_t fire(Vector<T>& v, const Vector<T>& threshold) {
#if defined(__AVX512BW__)
  if constexpr (sizeof(T) == 2) {
    const __mmask32 spikes = _mm512_cmpge_epi16_mask((__m512i)v, (__m512i)threshold);
    v = (Vector<T>)_mm512_maskz_mov_epi16(~spikes, (__m512i)v);
    return spikes;
  } else {
    const __mmask16 spikes = _mm512_cmpge_epi32_mask((__m512i)v, (__m512i)threshold);
    v = (Vector<T>)_mm512_maskz_mov_epi32(static_cast<__mmask16>(~spikes), (__m512i)v);
    return spikes;
  }
#else
  const auto fires = v >= threshold;  // all bits of a lane, or none
  v = v & ~(Vector<T>)fires;
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 2) {
    const std::uint32_t bytes = static_cast<std::uint32_t>(
        _mm256_movemask_epi8(_mm256_packs_epi16((__m256i)fires, _mm256_setzero_si256())));
    return (bytes & 0xffu) | ((bytes >> 8) & 0xff00u);
  } else {
    return static_cast<std::uint32_t>(_mm256_movemask_ps((__m256)fires));
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 2) {
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16((__m128i)fires, _mm_setzero_si128())));
  } else {
    return static_cast<std::uint32_t>(_mm_movemask_ps((__m128)fires));
  }
#else
  std::uint32_t spikes = 0;
  for (int lane = 0; lane < kLanes<T>; ++lane) spikes |= (fires[lane] ? 1u : 0u) << lane;
  return spikes;
#endif
#endif
}

// Calls f with a number of vectors known at compile time, until `total` vectors are done: f<count>(first).
template <class F>
inline void in_chunks(int total, F&& f) {
  int at = 0;
  for (; total - at >= 8; at += 8) f.template operator()<8>(at);
  if (total - at >= 4) { f.template operator()<4>(at); at += 4; }
  if (total - at >= 2) { f.template operator()<2>(at); at += 2; }
  if (total - at >= 1) f.template operator()<1>(at);
}

}  // namespace
}  // namespace spikehead
