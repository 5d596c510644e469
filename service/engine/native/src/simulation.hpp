// What one simulation works on and gives: state, spikes as bit masks, counts.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "network.hpp"

namespace spikehead {

constexpr int kMapLayers = 2;  // the first two hidden layers are maps, all others tokens
constexpr int kRow = 48;       // pixels of a row, with room for windows that reach over its ends
constexpr int kBorder = 4;     // rows and columns of it before the first: more than half a window of 7

// State and spikes of one hidden layer. Potentials in the layer's accumulator type.
struct LayerState {
  Aligned<std::int16_t> v16;
  Aligned<std::int32_t> v32;
  Aligned<std::uint64_t> spikes;   // [position][words]
  // For maps, which the next layer looks at through windows: which channels spiked, as lists.
  Aligned<std::uint8_t> events;          // [position][words][64] within the word, in order
  Aligned<std::int32_t> event_counts;    // [position][words]
  template <class T>
  T* v() {
    if constexpr (sizeof(T) == 2) return v16.data();
    else return v32.data();
  }
};

// Everything that a simulation of one image needs, allocated once and used again.
struct Workspace {
  explicit Workspace(const Network& network);

  std::array<std::uint8_t, kPixels> spikes{};   // input spikes of this step
  Aligned<std::int32_t> traces;                 // [kBorder + row][kRow] filtered spike trains, from kBorder on
  std::array<std::uint64_t, kSide + 2 * kBorder> lit{};  // a bit for each pixel whose trace is not 0, likewise
  std::vector<LayerState> layers;
  Aligned<std::int16_t> stream16, counts16;
  Aligned<std::int32_t> stream32, counts32;     // residual potential [token][padded]; counts of coincidences [token][padded]
  Aligned<std::int16_t> coincidences;           // K^T V: [key channel][value channel of its head]
  Aligned<std::int32_t> window;                 // rows of weights that the spikes of a window drive
  std::array<std::int32_t, kClasses> filtered{}, feedback{}, potential{};
  std::array<float, kClasses> probability{};
  std::array<std::uint8_t, kClasses> output{};
  std::vector<std::int64_t> counts;             // spikes of this step: input, hidden layers, output
  std::int64_t accumulates = 0;                 // of this step
  std::int64_t multiply_accumulates = 0;

  template <class T>
  T* stream() {
    if constexpr (sizeof(T) == 2) return stream16.data();
    else return stream32.data();
  }
};

// One time step from `spikes` and `uniforms`. `first`: all state counts as 0, whatever the workspace holds.
using StepFunction = void (*)(const Network&, Workspace&, const float* uniforms, bool first);

// One instruction set's kernels.
struct Kernels {
  const char* name;
  StepFunction step;
};

}  // namespace spikehead
