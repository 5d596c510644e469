// A whole request: time steps until the network is sure enough, or the last one.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "network.hpp"
#include "simulation.hpp"

namespace spikehead {

// Says when to stop, and how evidence becomes probabilities (`spikehead.model.decision`).
struct Rule {
  int max_steps = 1;
  double confidence = 1.0;
  const double* scale = nullptr;  // [max_steps] logits of one unit of evidence after each step
};

// Operations of the layers behind the input, of which each is an addition.
inline std::int64_t additions(const std::vector<std::int64_t>& operations) {
  std::int64_t total = 0;
  for (std::size_t i = 1; i < operations.size(); ++i) total += operations[i];
  return total;
}

struct Outcome {
  int steps = 0;
  bool sure = false;
  std::array<double, kClasses> probabilities{};
  std::array<std::int64_t, kClasses> output_counts{};
  std::vector<std::int64_t> counts;      // input, hidden layers, output
  std::vector<std::int64_t> operations;  // synaptic ones that each layer's spikes caused, likewise
  std::int64_t multiply_accumulates() const { return operations.front(); }  // filtered pixels are no spikes
  std::int64_t accumulates() const { return additions(operations); }
};

std::array<double, kClasses> class_probabilities(const std::array<std::int64_t, kClasses>& evidence, double scale);

// `input(t, spikes, uniforms)` gives the step's input; `seen(t)` may look at the workspace after it.
template <class Input, class Seen>
void simulate(const Network& network, const Kernels& kernels, Workspace& space, const Rule& rule, Outcome& outcome,
              Input&& input, Seen&& seen) {
  std::array<std::int64_t, kClasses> evidence{};
  std::array<float, kClasses> uniforms;
  outcome.output_counts.fill(0);
  outcome.counts.assign(space.counts.size(), 0);
  outcome.operations.assign(space.operations.size(), 0);
  for (int t = 0; t < rule.max_steps; ++t) {
    input(t, space.spikes.data(), uniforms.data());
    kernels.step(network, space, uniforms.data(), network.begins_anew(t));
    for (int k = 0; k < kClasses; ++k) {
      evidence[k] += space.potential[k];
      outcome.output_counts[k] += space.output[k];
    }
    for (std::size_t i = 0; i < space.counts.size(); ++i) {
      outcome.counts[i] += space.counts[i];
      outcome.operations[i] += space.operations[i];
    }
    seen(t);
    outcome.steps = t + 1;
    outcome.probabilities = class_probabilities(evidence, rule.scale[t]);
    double best = 0.0;
    for (const double p : outcome.probabilities) best = p > best ? p : best;
    outcome.sure = best >= rule.confidence;
    if (outcome.sure) return;
  }
}

}  // namespace spikehead
