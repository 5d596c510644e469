// State, spikes as bit masks, and counts of one simulation.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "network.hpp"

namespace spikehead {

constexpr int kRow = 32;    // pixels of a row, padded
constexpr int kBorder = 1;  // places around a map that windows reach over its edge: 5 with stride 2, 3 with 1 or 2

// State and spikes of one hidden layer. Potentials in the layer's accumulator type.
struct LayerState {
  // For maps: the currents of this step, [place with border][padded]. Between steps they stand at the bias.
  Values currents;
  Aligned<std::int16_t> v16;
  Aligned<std::int32_t> v32;
  Aligned<std::uint64_t> spikes;  // [position][words]
  template <class T>
  T* v() {
    if constexpr (sizeof(T) == 2) return v16.data();
    else return v32.data();
  }
};

// Everything that a simulation of one image needs, allocated once and used again.
struct Workspace {
  explicit Workspace(const Network& network);

  std::array<std::uint8_t, kPixels> spikes{};  // input spikes of this step
  Aligned<std::int32_t> traces;                // [row][kRow] filtered spike trains
  std::array<std::uint32_t, kSide> lit{};      // a bit for each pixel whose trace is not 0
  std::vector<LayerState> layers;
  Aligned<std::int16_t> stream16, counts16;
  Aligned<std::int32_t> stream32,
      counts32;                        // residual potential [token][padded]; counts of coincidences [token][padded]
  Aligned<std::int16_t> coincidences;  // K^T V: [key channel][value channel of its head]
  Aligned<std::uint64_t> seen;         // spikes that tokens read from themselves and those around them
  std::array<std::int32_t, kClasses> filtered{}, feedback{}, potential{};
  std::array<float, kClasses> probability{};
  std::array<std::uint8_t, kClasses> output{};
  std::vector<std::int64_t> counts;      // spikes of this step: input, hidden layers, output
  std::vector<std::int64_t> operations;  // synaptic operations that each layer's spikes caused, likewise

  Values stream_map;  // the residual potential as a map, likewise

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
