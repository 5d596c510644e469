#include "run.hpp"

#include <algorithm>
#include <cmath>

namespace spikehead {

namespace {

// Every place of a map with its border at the bias.
void fill_with_bias(Values& currents, const Synapses& synapses, int side, bool wide) {
  const std::size_t places = static_cast<std::size_t>(side + 2 * kBorder) * (side + 2 * kBorder);
  auto fill = [&](auto& values, const auto& bias) {
    values.assign(places * synapses.padded, 0);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = bias[i % synapses.padded];
  };
  if (wide) fill(currents.wide, synapses.start.wide);
  else fill(currents.narrow, synapses.start.narrow);
}

}  // namespace

Workspace::Workspace(const Network& network)
    : layers(network.layers.size()), counts(network.layers.size() + 2), operations(network.layers.size() + 2) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Neurons& layer = network.layers[i];
    const std::size_t neurons = static_cast<std::size_t>(layer.positions) * layer.padded;
    if (layer.wide) layers[i].v32.assign(neurons, 0);
    else layers[i].v16.assign(neurons, 0);
    layers[i].spikes.assign(static_cast<std::size_t>(layer.positions) * layer.words, 0);
  }
  traces.assign(kSide * kRow, 0);
  if (layers.empty()) return;
  const int half = kSide / 2, quarter = kSide / 4;
  for (int i = 0; i < kMapLayers; ++i) {
    fill_with_bias(layers[i].currents, i == 0 ? network.stem1 : network.stem2, half, network.layers[i].wide);
  }
  fill_with_bias(stream_map, network.stem3, quarter, network.wide_stream);
  auto put_in_place = [&](auto& map, const auto& place) {
    const int padded = network.stem3.padded;
    for (int token = 0; token < network.tokens; ++token) {
      const int at = (token / quarter + kBorder) * (quarter + 2 * kBorder) + token % quarter + kBorder;
      std::copy_n(place.data() + token * padded, padded, map.data() + at * padded);
    }
  };
  if (network.wide_stream) put_in_place(stream_map.wide, network.place.wide);
  else put_in_place(stream_map.narrow, network.place.narrow);
  const std::size_t stream = static_cast<std::size_t>(network.tokens) * round_up(network.channels, kLanePadding);
  if (network.wide_stream) stream32.assign(stream, 0);
  else stream16.assign(stream, 0);
  counts16.assign(stream, 0);
  counts32.assign(stream, 0);
  if (!network.seen_from.empty()) seen.assign(layers[network.tokens_layer].spikes.size(), 0);
  const int width = network.heads ? network.channels / network.heads : 0;
  coincidences.assign(static_cast<std::size_t>(network.channels) * round_up(width, 16), 0);
}

namespace {

// exp(x) for x <= 0 from multiplications and additions alone, so that every machine rounds alike
// (`spikehead.model.decision.exponential`).
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
