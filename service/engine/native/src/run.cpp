#include "run.hpp"

#include <cmath>

namespace spikehead {

Workspace::Workspace(const Network& network) : layers(network.layers.size()), counts(network.layers.size() + 2) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Neurons& layer = network.layers[i];
    const std::size_t neurons = static_cast<std::size_t>(layer.positions) * layer.padded;
    if (layer.wide) layers[i].v32.assign(neurons, 0);
    else layers[i].v16.assign(neurons, 0);
    layers[i].spikes.assign(static_cast<std::size_t>(layer.positions) * layer.words, 0);
    if (i < kMapLayers) {
      const std::size_t words = static_cast<std::size_t>(layer.positions) * layer.words;
      layers[i].events.assign(words * kWordBits, 0);
      layers[i].event_counts.assign(words, 0);
    }
  }
  const std::size_t stream = static_cast<std::size_t>(network.tokens) * round_up(network.channels, kLanePadding);
  if (network.wide_stream) stream32.assign(stream, 0);
  else stream16.assign(stream, 0);
  counts16.assign(stream, 0);
  counts32.assign(stream, 0);
  const int width = network.heads ? network.channels / network.heads : 0;
  traces.assign((kSide + 2 * kBorder) * kRow, 0);
  const Synapses* const windows[] = {&network.stem2, &network.stem3};
  std::size_t most = 0;
  for (const Synapses* s : windows) {
    const std::size_t rows = static_cast<std::size_t>(s->kernel) * s->kernel * s->inputs;
    most = rows > most ? rows : most;
  }
  window.assign(most + 8, 0);  // written eight at a time
  coincidences.assign(static_cast<std::size_t>(network.channels) * round_up(width, 16), 0);
}

namespace {

// exp(x) for x <= 0 from multiplications and additions alone, so that every machine rounds alike
// (`service.decision.exponential`).
double exponential(double x) {
  constexpr double kHigh = 0.693147180369123816490, kLow = 1.90821492927058770002e-10;
  if (x < -700.0) x = -700.0;
  const double k = std::nearbyint(x * 1.4426950408889634);
  const double r = (x - k * kHigh) - k * kLow;
  double sum = 1.0;
  for (int n = 13; n >= 1; --n) sum = sum * (r / n) + 1.0;
  return std::ldexp(sum, static_cast<int>(k));
}

}  // namespace

std::array<double, kClasses> class_probabilities(const std::array<std::int64_t, kClasses>& evidence, double scale) {
  std::array<double, kClasses> logits{}, result{};
  double highest = 0.0;
  for (int k = 0; k < kClasses; ++k) {
    logits[k] = static_cast<double>(evidence[k]) * scale;
    if (k == 0 || logits[k] > highest) highest = logits[k];
  }
  double total = 0.0;
  for (int k = 0; k < kClasses; ++k) {
    result[k] = exponential(logits[k] - highest);
    total += result[k];
  }
  for (double& p : result) p /= total;
  return result;
}

}  // namespace spikehead
