// One time step, computed only where there are spikes. Compiled once for each instruction set.
//
// A spike adds a row of weights to a row of accumulators. That row stays in registers until all spikes that reach its
// place are added and its neurons have leaked, integrated and fired.
#include <bit>

#include "simulation.hpp"
#include "vector.hpp"

#ifndef SPIKEHEAD_KERNELS
#error "SPIKEHEAD_KERNELS names the instruction set"
#endif

namespace spikehead {
namespace {

// Adds the rows of all channels that spiked.
template <class T, int N>
inline void add_spikes(Vector<T> (&acc)[N], const std::uint64_t* spikes, int words, const T* rows, int padded) {
  for (int word = 0; word < words; ++word) {
    const T* base = rows + static_cast<std::ptrdiff_t>(word) * kWordBits * padded;
    for (std::uint64_t left = spikes[word]; left; left &= left - 1) {
      const T* row = base + static_cast<std::ptrdiff_t>(std::countr_zero(left)) * padded;
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) acc[i] += load(row + i * kLanes<T>);
    }
  }
}

// Loads N vectors: they stay in registers while a loop goes through tokens or places.
template <class T, int N>
struct Rows {
  explicit Rows(const T* from) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) value[i] = load(from + i * kLanes<T>);
  }
  Vector<T> value[N];
};

// Leaks, integrates, fires and resets N vectors of neurons. Their spikes become bits from `offset` of `spikes`. Chunks
// come in order: the first one of a word sets it. Returns the number of spikes.
template <class T, int N, bool First>
inline int lif(Vector<T> (&current)[N], T* v, const Rows<T, N>& threshold, int shift, std::uint64_t* spikes,
               int offset) {
  constexpr int kOfWord = kWordBits / kLanes<T>;  // vectors of neurons
  if constexpr (!First) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Vector<T> old = load(v + i * kLanes<T>);
      current[i] += old - (old >> shift);
    }
  }
  std::uint64_t* to = spikes + offset / kWordBits;
  int count = 0;
  if constexpr (N > kOfWord) {
    static_assert(N % kOfWord == 0);
#pragma GCC unroll 8
    for (int word = 0; word < N / kOfWord; ++word) {
      using Part = Vector<T>[kOfWord];
      const auto fired = fire<T, kOfWord>(reinterpret_cast<Part&>(current[word * kOfWord]),
                                          reinterpret_cast<const Part&>(threshold.value[word * kOfWord]));
      count += std::popcount(fired);
      to[word] = fired;
    }
  } else {
    const std::uint64_t fired = fire<T, N>(current, threshold.value);
    count = std::popcount(fired);
    // Chunks get smaller, and each is a power of two: what starts within a word ends within it.
    const int place = offset % kWordBits;
    if (place == 0) *to = fired;
    else *to |= fired << place;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) store(v + i * kLanes<T>, current[i]);
  return count;
}

// Notes a layer's spikes, and their operations by its fan-out.
inline void count(const Neurons& layer, Workspace& space, int index, std::int64_t total) {
  space.counts[index + 1] = total;
  space.operations[index + 1] = total * layer.fan_out[0];  // every token drives as many synapses
}

// A convolution is scattered: a value at a place of its input goes to the places of its output whose windows cover it.
// Of a window of Kernel x Kernel with a stride of Step these are Rows x Columns taps, Step apart, from a first one on;
// the outputs lie next to each other. All sums stay in registers until the place is done.
template <class T, int Kernel, int Step, int Rows, int Columns>
struct Scatter {
  T* out;            // where the first tap leads
  const T* weights;  // of input 0, from the first tap on
  int padded;        // outputs, padded: between taps, and between places of the output
  int row;           // between rows of the output

  // Calls add(sums, weights of the first tap), which adds to the Rows x Columns sums of some vectors of outputs, until
  // all outputs are done.
  template <class Add>
  void operator()(Add&& add) const {
    constexpr int kTaps = Rows * Columns;
    constexpr int kMost = kTaps > kSums / 2 ? 1 : kTaps > kSums / 4 ? 2 : kTaps > kSums / 8 ? 4 : 8;
    in_chunks<kMost>(padded / kLanes<T>, [&]<int N>(int at) {
      Vector<T> sums[kTaps][N] = {};
      add(sums, weights + at * kLanes<T>);
#pragma GCC unroll 9
      for (int tap = 0; tap < kTaps; ++tap) {
        T* place = out - tap / Columns * row - tap % Columns * padded + at * kLanes<T>;
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) store<T>(place + i * kLanes<T>, load(place + i * kLanes<T>) + sums[tap][i]);
      }
    });
  }

  // Offset of the weights of a tap from those of the first.
  int offset(int tap) const { return (tap / Columns * Step * Kernel + tap % Columns * Step) * padded; }
};

// The first tap in one direction that reaches an output from `place`, and that output. Further taps are Step apart.
struct Reach {
  int tap, output;
};
template <int Kernel, int Step>
inline Reach reach(int place) {
  const int tap = (place + (Kernel - 1) / 2) % Step;
  return {tap, (place + (Kernel - 1) / 2 - tap) / Step};
}

// Calls f<Rows, Columns>() with the numbers of taps that reach outputs from a place whose first taps are these.
template <int Kernel, int Step, class F>
inline void with_taps(int first_y, int first_x, F&& f) {
  constexpr int kMost = (Kernel + Step - 1) / Step;  // from tap 0
  if constexpr (Step == 1) {
    f.template operator()<kMost, kMost>();
  } else {
    constexpr int kLeast = (Kernel + Step - 2) / Step;  // from tap 1
    if (first_y == 0) {
      if (first_x == 0) f.template operator()<kMost, kMost>();
      else f.template operator()<kMost, kLeast>();
    } else {
      if (first_x == 0) f.template operator()<kLeast, kMost>();
      else f.template operator()<kLeast, kLeast>();
    }
  }
}

// Scatters from one place the values that `visit(scatter)` adds.
template <class T, int Kernel, int Step, class Visit>
inline void scatter(const Synapses& synapses, T* currents, int side, int y, int x, Visit&& visit) {
  const int row = (side + 2 * kBorder) * synapses.padded;
  const Reach down = reach<Kernel, Step>(y), right = reach<Kernel, Step>(x);
  T* out = currents + (down.output + kBorder) * row + (right.output + kBorder) * synapses.padded;
  const T* weights = synapses.rows.as<T>() + (down.tap * Kernel + right.tap) * synapses.padded;
  with_taps<Kernel, Step>(down.tap, right.tap, [&]<int Rows, int Columns>() {
    visit(Scatter<T, Kernel, Step, Rows, Columns>{out, weights, synapses.padded, row});
  });
}

// Scatters the spikes of a map.
template <class T, int Kernel, int Step>
void scatter_spikes(const Synapses& synapses, const LayerState& from, int words, int from_side, T* currents, int side) {
  const std::uint64_t* spikes = from.spikes.data();
  const std::ptrdiff_t input = static_cast<std::ptrdiff_t>(Kernel) * Kernel * synapses.padded;
  for (int y = 0; y < from_side; ++y) {
    for (int x = 0; x < from_side; ++x, spikes += words) {
      std::uint64_t any = spikes[0];
      for (int word = 1; word < words; ++word) any |= spikes[word];
      if (!any) continue;
      auto visit = [&]<int Rows, int Columns>(const Scatter<T, Kernel, Step, Rows, Columns>& to) {
        to([&]<int N>(Vector<T>(&sums)[Rows* Columns][N], const T* weights) {
          for (int word = 0; word < words; ++word) {
            for (std::uint64_t left = spikes[word]; left; left &= left - 1) {
              const T* rows = weights + (word * kWordBits + std::countr_zero(left)) * input;
#pragma GCC unroll 9
              for (int tap = 0; tap < Rows * Columns; ++tap) {
#pragma GCC unroll 8
                for (int i = 0; i < N; ++i) sums[tap][i] += load(rows + to.offset(tap) + i * kLanes<T>);
              }
            }
          }
        });
      };
      scatter<T, Kernel, Step>(synapses, currents, side, y, x, visit);
    }
  }
}

// Scatters the filtered spike trains: the one place where values are not spikes. Only traces that are not 0 count.
template <class T>
void scatter_traces(const Synapses& synapses, const Workspace& space, T* currents, int side) {
  constexpr int kKernel = 5, kStep = 2;
  for (int y = 0; y < kSide; ++y) {
    for (std::uint32_t left = space.lit[y]; left; left &= left - 1) {
      const int x = std::countr_zero(left);
      const Vector<T> trace = broadcast<T>(static_cast<T>(space.traces[y * kRow + x]));
      auto visit = [&]<int Rows, int Columns>(const Scatter<T, kKernel, kStep, Rows, Columns>& to) {
        to([&]<int N>(Vector<T>(&sums)[Rows* Columns][N], const T* weights) {
#pragma GCC unroll 9
          for (int tap = 0; tap < Rows * Columns; ++tap) {
#pragma GCC unroll 8
            for (int i = 0; i < N; ++i) sums[tap][i] = load(weights + to.offset(tap) + i * kLanes<T>) * trace;
          }
        });
      };
      scatter<T, kKernel, kStep>(synapses, currents, side, y, x, visit);
    }
  }
}

// Sets the border to 0: sums that windows add over a map's edge belong to no neuron and must not grow.
template <class T>
inline void forget_border(T* currents, int side, int padded) {
  const int width = side + 2 * kBorder;
  auto forget = [&](int place, int places) {
    std::memset(currents + static_cast<std::ptrdiff_t>(place) * padded, 0, sizeof(T) * places * padded);
  };
  forget(0, kBorder * width + kBorder);
  for (int y = kBorder; y < side + kBorder; ++y) forget(y * width + kBorder + side, 2 * kBorder);
  forget((side + kBorder) * width + kBorder, kBorder * width - kBorder);
}

// A map's neurons take their currents, and leave the bias in their place for the next step.
template <class T, bool First>
void fire_map(const Network& network, Workspace& space, int index, const Synapses& synapses, int side) {
  const Neurons& layer = network.layers[index];
  LayerState& state = space.layers[index];
  const int padded = layer.padded, words = layer.words, shift = network.shift_membrane;
  const std::int32_t* fan_out = layer.fan_out.data();
  std::int64_t total = 0, cost = 0;
  in_chunks(padded / kLanes<T>, [&]<int N>(int at) {
    const Rows<T, N> threshold(layer.threshold.as<T>() + at * kLanes<T>), bias(synapses.start.as<T>() + at * kLanes<T>);
    T* v = state.v<T>() + at * kLanes<T>;
    std::uint64_t* spikes = state.spikes.data();
    for (int y = 0; y < side; ++y) {
      T* currents = state.currents.as<T>() + ((y + kBorder) * (side + 2 * kBorder) + kBorder) * padded + at * kLanes<T>;
      for (int x = 0; x < side; ++x, currents += padded, v += padded, spikes += words) {
        Rows<T, N> acc(currents);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) store(currents + i * kLanes<T>, bias.value[i]);
        const int fired = lif<T, N, First>(acc.value, v, threshold, shift, spikes, at * kLanes<T>);
        total += fired;
        cost += static_cast<std::int64_t>(fired) * fan_out[y * side + x];
      }
    }
  });
  forget_border(state.currents.as<T>(), side, padded);
  space.counts[index + 1] = total;
  space.operations[index + 1] = cost;
}

// stem3's map is the residual potential of the tokens.
template <class T>
void take_stream(const Network& network, Workspace& space, int side) {
  const Synapses& synapses = network.stem3;
  for (int token = 0; token < network.tokens; ++token) {
    T* map = space.stream_map.as<T>() +
             ((token / side + kBorder) * (side + 2 * kBorder) + token % side + kBorder) * synapses.padded;
    T* stream = space.stream<T>() + static_cast<std::ptrdiff_t>(token) * synapses.padded;
    for (int at = 0; at < synapses.padded; at += kLanes<T>) {
      store<T>(stream + at, load(map + at));
      store<T>(map + at, load(network.place.as<T>() + static_cast<std::ptrdiff_t>(token) * synapses.padded + at));
    }
  }
  forget_border(space.stream_map.as<T>(), side, synapses.padded);
}

// The spikes of a layer of tokens as its synapses see them: some channels are those of the tokens above, below, left
// and right. The map is a torus.
const std::uint64_t* seen_by_tokens(const Network& network, Workspace& space, int from) {
  const std::uint64_t* spikes = space.layers[from].spikes.data();
  if (network.seen_from.empty()) return spikes;
  constexpr int kQuarter = kSide / 4;
  const int words = network.layers[from].words, row = kQuarter * words;
  const std::uint64_t* mask[kSides];
  for (int side = 0; side < kSides; ++side) mask[side] = network.seen_from.data() + side * words;
  std::uint64_t* to = space.seen.data();
  for (int y = 0; y < kQuarter; ++y) {
    const std::uint64_t *here = spikes + y * row, *above = spikes + (y + kQuarter - 1) % kQuarter * row,
                        *below = spikes + (y + 1) % kQuarter * row;
    for (int x = 0; x < kQuarter; ++x) {
      const int at = x * words, left = (x + kQuarter - 1) % kQuarter * words, right = (x + 1) % kQuarter * words;
      for (int word = 0; word < words; ++word) {
        *to++ = (here[at + word] & mask[0][word]) | (above[at + word] & mask[1][word]) |
                (below[at + word] & mask[2][word]) | (here[left + word] & mask[3][word]) |
                (here[right + word] & mask[4][word]);
      }
    }
  }
  return space.seen.data();
}

// Matrices from one layer of token spikes to others, all of one width: its spikes are gone through once for all.
template <class T, bool First, int Targets>
void matrices(const Network& network, Workspace& space, const Synapses* const (&synapses)[Targets], int from,
              const int (&to)[Targets]) {
  const Neurons& before = network.layers[from];
  const int padded = synapses[0]->padded, words = before.words, shift = network.shift_membrane;
  const int target_words = network.layers[to[0]].words;
  const std::uint64_t* seen = seen_by_tokens(network, space, from);
  std::int64_t totals[Targets] = {};
  in_chunks(padded / kLanes<T>, [&]<int N>(int at) {
    const T *start[Targets], *rows[Targets], *limit[Targets];
    T* v[Targets];
    std::uint64_t* spikes[Targets];
    for (int target = 0; target < Targets; ++target) {
      const Neurons& layer = network.layers[to[target]];
      start[target] = synapses[target]->start.template as<T>() + at * kLanes<T>;
      rows[target] = synapses[target]->rows.template as<T>() + at * kLanes<T>;
      limit[target] = layer.threshold.template as<T>() + at * kLanes<T>;
      v[target] = space.layers[to[target]].template v<T>() + at * kLanes<T>;
      spikes[target] = space.layers[to[target]].spikes.data();
    }
    const std::uint64_t* incoming = seen;
    for (int token = 0; token < before.positions; ++token, incoming += words) {
      Vector<T> acc[Targets][N];
#pragma GCC unroll 3
      for (int target = 0; target < Targets; ++target) {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) acc[target][i] = load(start[target] + i * kLanes<T>);
      }
      for (int word = 0; word < words; ++word) {
        for (std::uint64_t left = incoming[word]; left; left &= left - 1) {
          const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(word * kWordBits + std::countr_zero(left)) * padded;
#pragma GCC unroll 3
          for (int target = 0; target < Targets; ++target) {
#pragma GCC unroll 8
            for (int i = 0; i < N; ++i) acc[target][i] += load(rows[target] + row + i * kLanes<T>);
          }
        }
      }
#pragma GCC unroll 3
      for (int target = 0; target < Targets; ++target) {
        const Rows<T, N> threshold(limit[target]);
        totals[target] += lif<T, N, First>(acc[target], v[target], threshold, shift, spikes[target], at * kLanes<T>);
        v[target] += padded;
        spikes[target] += target_words;
      }
    }
  });
  for (int target = 0; target < Targets; ++target) count(network.layers[to[target]], space, to[target], totals[target]);
}

// A matrix that adds to the residual potential.
template <class T>
void add_to_stream(const Network& network, Workspace& space, const Synapses& synapses, int from) {
  const int padded = synapses.padded, words = network.layers[from].words;
  in_chunks(padded / kLanes<T>, [&]<int N>(int at) {
    const Rows<T, N> bias(synapses.start.as<T>() + at * kLanes<T>);
    const T* rows = synapses.rows.as<T>() + at * kLanes<T>;
    const std::uint64_t* incoming = space.layers[from].spikes.data();
    T* stream = space.stream<T>() + at * kLanes<T>;
    for (int token = 0; token < network.tokens; ++token, incoming += words, stream += padded) {
      Rows<T, N> acc(stream);
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) acc.value[i] += bias.value[i];
      add_spikes<T, N>(acc.value, incoming, words, rows, padded);
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) store(stream + i * kLanes<T>, acc.value[i]);
    }
  });
}

// LIF neurons that are driven by a row of currents for each token.
template <class T, bool First>
void fire_tokens(const Network& network, Workspace& space, int to, const T* rows) {
  const Neurons& layer = network.layers[to];
  LayerState& state = space.layers[to];
  const int padded = layer.padded, words = layer.words, shift = network.shift_membrane;
  std::int64_t total = 0;
  in_chunks(padded / kLanes<T>, [&]<int N>(int at) {
    const Rows<T, N> threshold(layer.threshold.as<T>() + at * kLanes<T>);
    const T* currents = rows + at * kLanes<T>;
    T* v = state.v<T>() + at * kLanes<T>;
    std::uint64_t* spikes = state.spikes.data();
    for (int token = 0; token < layer.positions; ++token, currents += padded, v += padded, spikes += words) {
      Rows<T, N> acc(currents);
      total += lif<T, N, First>(acc.value, v, threshold, shift, spikes, at * kLanes<T>);
    }
  });
  count(layer, space, to, total);
}

template <bool First>
void fire_stream(const Network& network, Workspace& space, int to) {
  if (network.wide_stream) fire_tokens<std::int32_t, First>(network, space, to, space.stream32.data());
  else fire_tokens<std::int16_t, First>(network, space, to, space.stream16.data());
}

// `count` bits (at most 64) of a row of words, from bit `offset`.
inline std::uint64_t bits_of(const std::uint64_t* words, int offset, int count) {
  const int word = offset / kWordBits, bit = offset % kWordBits;
  std::uint64_t value = words[word] >> bit;
  if (bit + count > kWordBits) value |= words[word + 1] << (kWordBits - bit);
  return count == kWordBits ? value : value & ((std::uint64_t{1} << count) - 1);
}

constexpr int kGroup = 16;  // columns of K^T V that are added at once
typedef std::int16_t Group __attribute__((vector_size(kGroup * 2)));

// 1 in each lane whose bit is set, else 0, negated: what is subtracted to add.
inline Group minus_bits(std::uint64_t bits) {
  const Group places = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768};
  return (((static_cast<std::int16_t>(bits) - Group{}) & places) == places);
}

// Q (K^T V) of all heads, for heads with at most as many channels as there are tokens.
//
// Every key spike adds its token's value spikes to its row of K^T V; every query spike adds a row to the counts.
void coincide(const Network& network, Workspace& space, const Block& block, std::int16_t* counts, int padded) {
  std::int64_t pairs = 0;  // of a key and a value spike: the additions in K^T V
  const int width = network.channels / network.heads, columns = round_up(width, kGroup);
  const int words = network.layers[block.query_layer].words;
  const std::uint64_t* query = space.layers[block.query_layer].spikes.data();
  const std::uint64_t* key = space.layers[block.key_layer].spikes.data();
  const std::uint64_t* value = space.layers[block.value_layer].spikes.data();
  std::int16_t* table = space.coincidences.data();
  std::memset(table, 0, sizeof(std::int16_t) * static_cast<std::size_t>(network.channels) * columns);
  std::memset(counts, 0, sizeof(std::int16_t) * static_cast<std::size_t>(network.tokens) * padded);
  for (int token = 0; token < network.tokens; ++token, key += words, value += words) {
    for (int word = 0; word < words; ++word) {
      for (std::uint64_t left = key[word]; left; left &= left - 1) {
        const int channel = word * kWordBits + std::countr_zero(left);
        const int offset = network.head_offset[channel];
        for (int column = 0; column < width; column += kGroup) {
          const int group = width - column < kGroup ? width - column : kGroup;
          std::int16_t* row = table + channel * columns + column;
          const std::uint64_t values = bits_of(value, offset + column, group);
          pairs += std::popcount(values);
          Group sum;
          std::memcpy(&sum, row, sizeof sum);
          sum -= minus_bits(values);
          std::memcpy(row, &sum, sizeof sum);
        }
      }
    }
  }
  space.operations[block.key_layer + 1] = pairs;
  for (int token = 0; token < network.tokens; ++token, query += words, counts += padded) {
    for (int word = 0; word < words; ++word) {
      for (std::uint64_t left = query[word]; left; left &= left - 1) {
        const int channel = word * kWordBits + std::countr_zero(left);
        const int offset = network.head_offset[channel];
        for (int column = 0; column < width; column += kGroup) {
          // Columns beyond the head's are 0: they add nothing to the next head's counts.
          std::int16_t* to = counts + offset + column;
          Group sum, row;
          std::memcpy(&sum, to, sizeof sum);
          std::memcpy(&row, table + channel * columns + column, sizeof row);
          sum += row;
          std::memcpy(to, &sum, sizeof sum);
        }
      }
    }
  }
}

// (Q K^T) V for one head, for heads with more channels than there are tokens. Any size of counts.
template <class T>
void attend(const Network& network, Workspace& space, const Block& block, int head, T* counts, int padded) {
  const int width = network.channels / network.heads, offset = head * width;
  const int words = network.layers[block.query_layer].words;
  const std::uint64_t* query = space.layers[block.query_layer].spikes.data();
  const std::uint64_t* key = space.layers[block.key_layer].spikes.data();
  const std::uint64_t* value = space.layers[block.value_layer].spikes.data();
  for (int token = 0; token < network.tokens; ++token) {
    T* to = counts + static_cast<std::ptrdiff_t>(token) * padded + offset;
    for (int channel = 0; channel < width; ++channel) to[channel] = 0;
    for (int other = 0; other < network.tokens; ++other) {
      int weight = 0;
      for (int part = 0; part < width; part += kWordBits) {
        const int size = width - part < kWordBits ? width - part : kWordBits;
        weight += std::popcount(bits_of(query + static_cast<std::ptrdiff_t>(token) * words, offset + part, size) &
                                bits_of(key + static_cast<std::ptrdiff_t>(other) * words, offset + part, size));
      }
      if (!weight) continue;
      for (int part = 0; part < width; part += kWordBits) {
        const int size = width - part < kWordBits ? width - part : kWordBits;
        for (std::uint64_t left = bits_of(value + static_cast<std::ptrdiff_t>(other) * words, offset + part, size);
             left; left &= left - 1) {
          T& count = to[part + std::countr_zero(left)];
          count = static_cast<T>(count + weight);
        }
      }
    }
  }
}

// Key spikes times value spikes, for each token and head: the additions in K^T V.
inline std::int64_t pairs(const Network& network, const Workspace& space, const Block& block) {
  const int width = network.channels / network.heads, words = network.layers[block.key_layer].words;
  const std::uint64_t* key = space.layers[block.key_layer].spikes.data();
  const std::uint64_t* value = space.layers[block.value_layer].spikes.data();
  std::int64_t total = 0;
  for (int token = 0; token < network.tokens; ++token, key += words, value += words) {
    for (int head = 0; head < network.heads; ++head) {
      int keys = 0, values = 0;
      for (int part = 0; part < width; part += kWordBits) {
        const int size = width - part < kWordBits ? width - part : kWordBits;
        keys += std::popcount(bits_of(key, head * width + part, size));
        values += std::popcount(bits_of(value, head * width + part, size));
      }
      total += static_cast<std::int64_t>(keys) * values;
    }
  }
  return total;
}

template <class T, bool First>
void attention(const Network& network, Workspace& space, const Block& block) {
  const Neurons& layer = network.layers[block.attention_layer];
  T* counts;
  if constexpr (sizeof(T) == 2) counts = space.counts16.data();
  else counts = space.counts32.data();
  bool done = false;
  if constexpr (sizeof(T) == 2) {
    if (network.channels / network.heads <= network.tokens) {
      coincide(network, space, block, counts, layer.padded);
      done = true;
    }
  }
  if (!done) {
    for (int head = 0; head < network.heads; ++head) attend<T>(network, space, block, head, counts, layer.padded);
    space.operations[block.key_layer + 1] = pairs(network, space, block);
  }
  fire_tokens<T, First>(network, space, block.attention_layer, counts);
}

// Kernel A: a = leak(a) + unit * x. Notes which pixels are not 0, and the number of their products.
template <bool First>
void filter_input(const Network& network, Workspace& space) {
  std::int32_t spikes = 0, products = 0;
  const std::int32_t unit = network.unit_input, shift = network.shift_input;
  for (int y = 0; y < kSide; ++y) {
    std::int32_t* __restrict traces = space.traces.data() + y * kRow;
    const std::uint8_t* row = space.spikes.data() + y * kSide;
    const std::int32_t* fan_out = network.input_fan_out.data() + y * kSide;
    for (int x = 0; x < kSide; ++x) {
      std::int32_t trace = unit * row[x];
      if constexpr (!First) trace += traces[x] - (traces[x] >> shift);
      traces[x] = trace;
      spikes += row[x];
      products += -static_cast<std::int32_t>(trace != 0) & fan_out[x];
    }
    std::uint32_t lit = 0;
    for (int x = 0; x < kRow; x += kLanes<std::int32_t>) {
      Vector<std::int32_t> values[] = {load(traces + x)};  // never negative: a trace that is not 0 is at least 1
      const Vector<std::int32_t> least[] = {broadcast<std::int32_t>(1)};
      lit |= static_cast<std::uint32_t>(fire<std::int32_t, 1>(values, least) << x);
    }
    space.lit[y] = lit;
  }
  space.counts[0] = spikes;
  space.operations[0] = products;
}

typedef std::int8_t ClassWeights __attribute__((vector_size(kClassLanes)));
typedef std::int16_t ClassRow __attribute__((vector_size(kClassLanes * 2)));
typedef std::int32_t Drive __attribute__((vector_size(kClassLanes * 4)));

// Weights onto the output neurons from one feature.
inline ClassRow class_row(const Network& network, std::ptrdiff_t feature) {
  ClassWeights row;
  std::memcpy(&row, network.readout.data() + feature * kClassLanes, sizeof row);
  return __builtin_convertvector(row, ClassRow);
}

// Drive of the output neurons by the tokens' spikes.
inline Drive drive_of_tokens(const Network& network, const Workspace& space) {
  const Neurons& tokens = network.layers[network.tokens_layer];
  const std::uint64_t* spikes = space.layers[network.tokens_layer].spikes.data();
  Drive drive{};
  for (int token = 0; token < tokens.positions; ++token) {
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(token) * tokens.channels;
    for (int word = 0; word < tokens.words; ++word, ++spikes) {
      ClassRow sum{};  // 64 weights of 8 bits fit
      for (std::uint64_t left = *spikes; left; left &= left - 1) {
        sum += class_row(network, first + word * kWordBits + std::countr_zero(left));
      }
      drive += __builtin_convertvector(sum, Drive);
    }
  }
  return drive;
}

// Drive of the output neurons by the filtered pixels, in a network without hidden layers.
inline Drive drive_of_pixels(const Network& network, const Workspace& space) {
  Drive drive{};
  for (int y = 0; y < kSide; ++y) {
    for (std::uint32_t left = space.lit[y]; left; left &= left - 1) {
      const int x = std::countr_zero(left);
      const auto weights = __builtin_convertvector(class_row(network, y * kSide + x), Drive);
      drive += weights * space.traces[y * kRow + x];
    }
  }
  return drive;
}

// GLM output neurons: u = drive (filtered if spikes drive them) + feedback + gamma, y ~ Bernoulli(sigmoid(u)), kernel
// B.
template <bool First>
void generate(const Network& network, Workspace& space, const Drive& drive, bool filtered, const float* uniforms) {
  const std::int32_t half = static_cast<std::int32_t>(network.sigmoid.size() / 2);
  std::int64_t fired = 0;
  for (int k = 0; k < kClasses; ++k) {
    const std::int32_t old = First || !filtered ? 0 : space.filtered[k];
    const std::int32_t trace = First ? 0 : space.feedback[k];
    space.filtered[k] = old - (old >> network.shift_readout) + drive[k];
    const std::int32_t u = space.filtered[k] + network.feedback[k] * trace + network.gamma[k];
    const std::int32_t entry = u >> network.shift_sigmoid;
    const std::int32_t clipped = entry < -half ? -half : entry > half ? half : entry;
    space.potential[k] = u;
    space.probability[k] = network.sigmoid[static_cast<std::size_t>(clipped + half)];
    space.output[k] = uniforms[k] < space.probability[k];
    space.feedback[k] = trace - (trace >> network.shift_feedback) - network.unit_feedback * space.output[k];
    fired += space.output[k];
  }
  space.counts.back() = fired;
}

template <bool First>
void run_step(const Network& network, Workspace& space, const float* uniforms) {
  auto typed = [](bool wide, auto&& f) {
    if (wide) f(std::int32_t{});
    else f(std::int16_t{});
  };
  auto forward = [&]<int Targets>(const Synapses* const(&synapses)[Targets], int from, const int (&to)[Targets]) {
    bool alike = true;
    for (const int index : to) alike = alike && network.layers[index].wide == network.layers[to[0]].wide;
    if (alike) {
      typed(network.layers[to[0]].wide,
            [&]<class T>(T) { matrices<T, First, Targets>(network, space, synapses, from, to); });
    } else {
      for (int i = 0; i < Targets; ++i) {
        const Synapses* const one[] = {synapses[i]};
        const int target[] = {to[i]};
        typed(network.layers[to[i]].wide,
              [&]<class T>(T) { matrices<T, First, 1>(network, space, one, from, target); });
      }
    }
  };
  auto onto_stream = [&](const Synapses& synapses, int from) {
    typed(network.wide_stream, [&]<class T>(T) { add_to_stream<T>(network, space, synapses, from); });
  };
  auto fire_residual = [&](int to) { fire_stream<First>(network, space, to); };

  filter_input<First>(network, space);
  if (network.layers.empty()) {
    generate<First>(network, space, drive_of_pixels(network, space), false, uniforms);
    return;
  }
  constexpr int kHalf = kSide / 2, kQuarter = kSide / 4;
  typed(network.layers[0].wide, [&]<class T>(T) {
    scatter_traces<T>(network.stem1, space, space.layers[0].currents.as<T>(), kHalf);
    fire_map<T, First>(network, space, 0, network.stem1, kHalf);
  });
  typed(network.layers[1].wide, [&]<class T>(T) {
    T* currents = space.layers[1].currents.as<T>();
    scatter_spikes<T, 3, 1>(network.stem2, space.layers[0], network.layers[0].words, kHalf, currents, kHalf);
    fire_map<T, First>(network, space, 1, network.stem2, kHalf);
  });
  typed(network.wide_stream, [&]<class T>(T) {
    T* currents = space.stream_map.as<T>();
    scatter_spikes<T, 3, 2>(network.stem3, space.layers[1], network.layers[1].words, kHalf, currents, kQuarter);
    take_stream<T>(network, space, kQuarter);
  });
  for (const Block& block : network.blocks) {
    if (block.attends) {
      fire_residual(block.attention_in_layer);
      forward({&block.query, &block.key, &block.value}, block.attention_in_layer,
              {block.query_layer, block.key_layer, block.value_layer});
      typed(network.layers[block.attention_layer].wide,
            [&]<class T>(T) { attention<T, First>(network, space, block); });
      onto_stream(block.projection, block.attention_layer);
    }
    fire_residual(block.mlp_in_layer);
    forward({&block.expand}, block.mlp_in_layer, {block.mlp_hidden_layer});
    onto_stream(block.contract, block.mlp_hidden_layer);
  }
  fire_residual(network.tokens_layer);
  generate<First>(network, space, drive_of_tokens(network, space), true, uniforms);
}

void step(const Network& network, Workspace& space, const float* uniforms, bool first) {
  if (first) run_step<true>(network, space, uniforms);
  else run_step<false>(network, space, uniforms);
}

#define SPIKEHEAD_TEXT(x) #x
#define SPIKEHEAD_NAME(x) SPIKEHEAD_TEXT(x)

}  // namespace

extern const Kernels SPIKEHEAD_KERNELS;
const Kernels SPIKEHEAD_KERNELS = {SPIKEHEAD_NAME(SPIKEHEAD_KERNELS), step};

}  // namespace spikehead
