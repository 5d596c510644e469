// The Python module: arrays in, arrays out. Nothing here computes; the GIL is released while the engine does.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "answer.hpp"
#include "build.hpp"
#include "encoder.hpp"
#include "mnist_form.hpp"
#include "retina.hpp"
#include "retina_constants.hpp"
#include "run.hpp"

namespace nb = nanobind;

namespace spikehead {

extern const Kernels baseline;
#ifdef SPIKEHEAD_X86
extern const Kernels avx2;
extern const Kernels avx512;
#endif

namespace {

// Kernels that this machine can run, fastest first.
std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#ifdef SPIKEHEAD_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2")) {
    found.push_back(&avx512);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")) {
    found.push_back(&avx2);
  }
#endif
  found.push_back(&baseline);
  return found;
}

const Kernels& kernels_named(const std::string& name) {
  std::string names;
  for (const Kernels* kernels : available()) {
    if (name == "auto" || name == kernels->name) return *kernels;
    names += std::string(names.empty() ? "" : ", ") + kernels->name;
  }
  throw std::invalid_argument("expected auto or an instruction set of this machine (" + names + "), got " + name);
}

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;

using Seeds = std::vector<std::uint64_t>;

void check(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("expected ") + what);
}

// Builds a network from numpy arrays of int8, int32 and float32, by name.
Network network_of(const nb::dict& arrays) {
  std::vector<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>> owners;
  Arrays views;
  for (const auto& [name, value] : arrays) {
    const auto& owner = owners.emplace_back(nb::cast<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>(value));
    Array& view = views[nb::cast<std::string>(name)];
    for (std::size_t axis = 0; axis < owner.ndim(); ++axis) view.shape.push_back(owner.shape(axis));
    auto look = [&]<class T>(T) {
      if (owner.dtype() != nb::dtype<T>()) return false;
      view.values = std::span<const T>(static_cast<const T*>(owner.data()), owner.size());
      return true;
    };
    check(look(std::int8_t{}) || look(std::int32_t{}) || look(float{}), "arrays of int8, int32 and float32");
  }
  return build(views);
}

// A numpy array of its own memory. Zeros.
template <class T>
struct Out {
  explicit Out(std::vector<std::size_t> shape) : shape(std::move(shape)) {
    std::size_t size = 1;
    for (const std::size_t n : this->shape) size *= n;
    data = new T[size]();
    owner = nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  }
  nb::object array() const { return nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner)); }
  std::vector<std::size_t> shape;
  T* data = nullptr;
  nb::capsule owner;
};

// Outcomes of a batch, a row for each image, in two arrays: numpy makes two large ones faster than many small ones.
//   whole   int64 [N, 2 + 10 + 2 layers]   steps, sure, output counts; of each layer spikes, then synaptic operations
//   real    double [N, 2 + 10]           seconds of encoding, seconds of it all, class probabilities
struct Outcomes {
  Outcomes(std::size_t images, std::size_t layers)
      : whole({images, 2 + kClasses + 2 * layers}), real({images, 2 + kClasses}) {}
  void set(std::size_t i, const Outcome& outcome, double encoding, double total) {
    std::int64_t* row = whole.data + i * whole.shape[1];
    *row++ = outcome.steps;
    *row++ = outcome.sure;
    row = std::copy(outcome.output_counts.begin(), outcome.output_counts.end(), row);
    row = std::copy(outcome.counts.begin(), outcome.counts.end(), row);
    std::copy(outcome.operations.begin(), outcome.operations.end(), row);
    double* values = real.data + i * real.shape[1];
    *values++ = encoding;
    *values++ = total;
    std::copy(outcome.probabilities.begin(), outcome.probabilities.end(), values);
  }
  nb::tuple tuple() const { return nb::make_tuple(whole.array(), real.array()); }
  Out<std::int64_t> whole;
  Out<double> real;
};

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// Number of images. Throws std::invalid_argument if there is too little input for the steps.
std::size_t check_input(const In<std::uint8_t>& spikes, const In<float>& uniforms, int max_steps) {
  check(spikes.ndim() == 3 && uniforms.ndim() == 3 && spikes.shape(2) == kPixels && uniforms.shape(2) == kClasses,
        "spikes [T, N, 784] and uniforms [T, N, 10]");
  const std::size_t steps = spikes.shape(0), images = spikes.shape(1);
  check(max_steps >= 1 && static_cast<std::size_t>(max_steps) <= steps && uniforms.shape(0) == steps &&
            uniforms.shape(1) == images,
        "input for each time step and image");
  return images;
}

// The function that `simulate` calls for the input of each step of image i.
auto given(const In<std::uint8_t>& spikes, const In<float>& uniforms, std::size_t i) {
  return [&spikes, &uniforms, i](int t, std::uint8_t* to, float* random) {
    const std::size_t at = static_cast<std::size_t>(t) * spikes.shape(1) + i;
    std::copy_n(spikes.data() + at * kPixels, kPixels, to);
    std::copy_n(uniforms.data() + at * kClasses, kClasses, random);
  };
}

class Engine {
 public:
  Engine(const nb::dict& arrays, const std::string& simd)
      : network_(network_of(arrays)), kernels_(kernels_named(simd)) {}

  const char* simd() const { return kernels_.name; }

  // Name and number of neurons of each hidden layer.
  std::vector<std::pair<std::string, int>> layers() const {
    std::vector<std::pair<std::string, int>> result;
    for (const Neurons& layer : network_.layers) result.emplace_back(layer.name, layer.positions * layer.channels);
    return result;
  }

  nb::dict bounds() const {
    nb::dict result;
    for (const Neurons& layer : network_.layers) {
      result[layer.name.c_str()] = nb::make_tuple(layer.bound.low, layer.bound.high, layer.wide ? 32 : 16);
    }
    return result;
  }

  // Encodes and simulates: images uint8 [N, ...], a seed for each.
  nb::tuple classify(In<std::uint8_t> images, const Seeds& seeds, int max_steps, double confidence, In<double> scale,
                     bool regular) {
    check(images.size() == seeds.size() * kPixels, "784 pixels an image");
    const Rule rule = rule_of(max_steps, confidence, scale);
    Outcomes outcomes(seeds.size(), network_.layers.size() + 2);
    {
      nb::gil_scoped_release released;
      run_all(images, seeds, rule, regular, kUnseen,
              [&](std::size_t i, const Outcome& outcome, double encoding, double total) {
                outcomes.set(i, outcome, encoding, total);
              });
    }
    return outcomes.tuple();
  }

  // Encodes and simulates, and writes each image's answer as JSON: a list of the fields of
  // `spikehead.engine.base.Answer`, and int64 [2, layers], the spikes of all images and their operations.
  nb::tuple answers(In<std::uint8_t> images, const Seeds& seeds, int max_steps, double confidence, In<double> scale,
                    bool regular, const std::vector<std::string>& ids, In<double> decode_ms, const nb::tuple& words) {
    check(images.size() == seeds.size() * kPixels, "784 pixels an image");
    check(ids.size() == seeds.size() && decode_ms.size() == seeds.size(), "an id and a time for each image");
    const Rule rule = rule_of(max_steps, confidence, scale);
    const Wording wording{nb::cast<std::string>(words[0]), nb::cast<std::vector<std::string>>(words[1]),
                          nb::cast<std::string>(words[2]), nb::cast<std::string>(words[3]),
                          nb::cast<std::string>(words[4])};
    check(wording.layers.size() == network_.layers.size(), "a name for each hidden layer");
    struct Answer {
      std::string json;
      int prediction, steps;
      double confidence, encode_ms, simulate_ms;
      bool sure;
    };
    std::vector<Answer> found(seeds.size());
    Out<std::int64_t> work({2, network_.layers.size() + 2});
    {
      nb::gil_scoped_release released;
      run_all(images, seeds, rule, regular, kUnseen,
              [&](std::size_t i, const Outcome& outcome, double encoding, double total) {
                const Timings timings{decode_ms.data()[i], 1000 * encoding, 1000 * (total - encoding)};
                const int best = prediction(outcome);
                found[i] = {answer(wording, ids[i], seeds[i], outcome, timings),
                            best,
                            outcome.steps,
                            outcome.probabilities[best],
                            timings.encode_ms,
                            timings.simulate_ms,
                            outcome.sure};
                for (std::size_t layer = 0; layer < outcome.counts.size(); ++layer) {
                  work.data[layer] += outcome.counts[layer];
                  work.data[outcome.counts.size() + layer] += outcome.operations[layer];
                }
              });
    }
    nb::list result;
    const nb::str sure("confidence"), last("max_steps");
    for (const Answer& one : found) {
      result.append(nb::make_tuple(nb::bytes(one.json.data(), one.json.size()), one.prediction, one.confidence,
                                   one.steps, one.sure ? sure : last, one.encode_ms, one.simulate_ms, nb::none()));
    }
    return nb::make_tuple(result, work.array());
  }

  // Encodes and simulates all steps of each image, whatever the confidence: int64 [N, T, 10 + (layers + 2) + 2],
  // potentials, spike counts, accumulates and multiply-accumulates of each step.
  nb::object by_step(In<std::uint8_t> images, const Seeds& seeds, int steps, In<double> scale, bool regular) {
    check(images.size() == seeds.size() * kPixels, "784 pixels an image");
    const Rule rule = rule_of(steps, 2.0, scale);  // more than any confidence
    const std::size_t width = kClasses + network_.layers.size() + 2 + 2;
    Out<std::int64_t> result({seeds.size(), static_cast<std::size_t>(steps), width});
    {
      nb::gil_scoped_release released;
      auto seen = [&](std::size_t i, int t, const Workspace& space) {
        std::int64_t* row = result.data + (i * static_cast<std::size_t>(steps) + static_cast<std::size_t>(t)) * width;
        row = std::copy(space.potential.begin(), space.potential.end(), row);
        row = std::copy(space.counts.begin(), space.counts.end(), row);
        *row++ = additions(space.operations);
        *row = space.operations.front();
      };
      run_all(images, seeds, rule, regular, seen, [](std::size_t, const Outcome&, double, double) {});
    }
    return result.array();
  }

  // Simulates given spikes uint8 [T, N, 784] with uniforms float32 [T, N, 10]: the outcomes alone.
  nb::tuple run(In<std::uint8_t> spikes, In<float> uniforms, int max_steps, double confidence, In<double> scale) {
    const std::size_t images = check_input(spikes, uniforms, max_steps);
    const Rule rule = rule_of(max_steps, confidence, scale);
    Outcomes outcomes(images, network_.layers.size() + 2);
    {
      nb::gil_scoped_release released;
      Lease lease(*this);
      Outcome outcome;
      for (std::size_t i = 0; i < images; ++i) {
        const auto began = std::chrono::steady_clock::now();
        simulate(network_, kernels_, *lease.space, rule, outcome, given(spikes, uniforms, i), [](int) {});
        outcomes.set(i, outcome, 0.0, seconds_since(began));
      }
    }
    return outcomes.tuple();
  }

  // Simulates as `run` does, and keeps everything: the outcomes, and a dictionary with an array [N, T, ...] for each
  // hidden layer (uint8, in the graph's order of neurons), `traces`, `potential`, `spike_probability`, `output` and
  // `feedback`. Steps that were not run stay 0.
  nb::tuple record(In<std::uint8_t> spikes, In<float> uniforms, int max_steps, double confidence, In<double> scale) {
    const std::size_t images = check_input(spikes, uniforms, max_steps);
    const Rule rule = rule_of(max_steps, confidence, scale);
    const auto length = static_cast<std::size_t>(max_steps);
    Outcomes outcomes(images, network_.layers.size() + 2);
    std::vector<Out<std::uint8_t>> rasters;
    for (const Neurons& layer : network_.layers) {
      rasters.emplace_back(std::vector<std::size_t>{
          images, length, static_cast<std::size_t>(layer.positions) * static_cast<std::size_t>(layer.channels)});
    }
    Out<std::int32_t> traces({images, length, kPixels}), potential({images, length, kClasses});
    Out<std::int32_t> feedback({images, length, kClasses});
    Out<float> probability({images, length, kClasses});
    Out<std::uint8_t> output({images, length, kClasses});
    {
      nb::gil_scoped_release released;
      Lease lease(*this);
      Workspace& space = *lease.space;
      Outcome outcome;
      for (std::size_t i = 0; i < images; ++i) {
        const auto began = std::chrono::steady_clock::now();
        auto seen = [&](int t) {
          const std::size_t at = i * length + static_cast<std::size_t>(t);
          for (std::size_t layer = 0; layer < rasters.size(); ++layer) {
            unpack(static_cast<int>(layer), space, rasters[layer].data + at * rasters[layer].shape[2]);
          }
          for (int pixel = 0; pixel < kPixels; ++pixel) {
            traces.data[at * kPixels + pixel] = space.traces[pixel / kSide * kRow + pixel % kSide];
          }
          std::copy(space.potential.begin(), space.potential.end(), potential.data + at * kClasses);
          std::copy(space.feedback.begin(), space.feedback.end(), feedback.data + at * kClasses);
          std::copy(space.probability.begin(), space.probability.end(), probability.data + at * kClasses);
          std::copy(space.output.begin(), space.output.end(), output.data + at * kClasses);
        };
        simulate(network_, kernels_, space, rule, outcome, given(spikes, uniforms, i), seen);
        outcomes.set(i, outcome, 0.0, seconds_since(began));
      }
    }
    nb::dict recorded;
    for (std::size_t layer = 0; layer < rasters.size(); ++layer) {
      recorded[network_.layers[layer].name.c_str()] = rasters[layer].array();
    }
    recorded["traces"] = traces.array();
    recorded["potential"] = potential.array();
    recorded["spike_probability"] = probability.array();
    recorded["output"] = output.array();
    recorded["feedback"] = feedback.array();
    return nb::make_tuple(outcomes.tuple(), recorded);
  }

 private:
  static constexpr auto kUnseen = [](std::size_t, int, const Workspace&) {};

  // Encodes and simulates each image; `seen(i, step, workspace)` after each step, then `done(i, outcome, seconds of
  // encoding, seconds of it all)`. Without the GIL.
  template <class Seen, class Done>
  void run_all(const In<std::uint8_t>& images, const Seeds& seeds, const Rule& rule, bool regular, Seen&& seen,
               Done&& done) {
    Lease lease(*this);
    Outcome outcome;
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      const auto began = std::chrono::steady_clock::now();
      std::uint8_t contrast[kPixels];
      see_contrast(images.data() + i * kPixels, contrast);
      Encoder encoder(contrast, seeds[i], regular, network_.rate_slope);
      double encoding = seconds_since(began);
      auto input = [&](int, std::uint8_t* spikes, float* uniforms) {
        const auto asked = std::chrono::steady_clock::now();
        encoder.step(spikes, uniforms);
        encoding += seconds_since(asked);
      };
      simulate(network_, kernels_, *lease.space, rule, outcome, input, [&](int t) { seen(i, t, *lease.space); });
      done(i, outcome, encoding, seconds_since(began));
    }
  }

  // A workspace for one call: taken from those that earlier calls left, given back afterwards.
  struct Lease {
    explicit Lease(Engine& engine) : engine(engine) {
      const std::lock_guard lock(engine.mutex_);
      if (!engine.spare_.empty()) {
        space = std::move(engine.spare_.back());
        engine.spare_.pop_back();
      } else {
        space = std::make_unique<Workspace>(engine.network_);
      }
    }
    ~Lease() {
      const std::lock_guard lock(engine.mutex_);
      engine.spare_.push_back(std::move(space));
    }
    Engine& engine;
    std::unique_ptr<Workspace> space;
  };

  Rule rule_of(int max_steps, double confidence, const In<double>& scale) const {
    check(max_steps >= 1 && static_cast<std::size_t>(max_steps) <= scale.size(), "a scale for each time step");
    return {max_steps, confidence, scale.data()};
  }

  // Bit masks [position][channel] to bytes in the graph's order: maps are [channel][position], tokens as they are.
  void unpack(int index, const Workspace& space, std::uint8_t* to) const {
    const Neurons& layer = network_.layers[index];
    const std::uint64_t* spikes = space.layers[index].spikes.data();
    const bool map = index < kMapLayers;
    for (int position = 0; position < layer.positions; ++position, spikes += layer.words) {
      for (int channel = 0; channel < layer.channels; ++channel) {
        const bool fired = spikes[channel / kWordBits] >> (channel % kWordBits) & 1;
        to[map ? channel * layer.positions + position : position * layer.channels + channel] = fired;
      }
    }
  }

  friend class Course;

  Network network_;
  const Kernels& kernels_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> spare_;
};

// One image's run, one time step for each call.
class Course {
 public:
  Course(const Engine& engine, In<std::uint8_t> image, std::uint64_t seed, bool regular)
      : engine_(engine), space_(engine.network_), encoder_(seen(image), seed, regular, engine.network_.rate_slope) {}

  // Everything of the next step: the spikes of `input`, each hidden layer and `output` (uint8, flat), `traces`,
  // `potential` and `feedback` (int32), `spike_probability` (float32).
  nb::dict step() {
    std::array<float, kClasses> uniforms;
    encoder_.step(space_.spikes.data(), uniforms.data());
    engine_.kernels_.step(engine_.network_, space_, uniforms.data(), engine_.network_.begins_anew(t_));
    ++t_;
    nb::dict result;
    result["input"] = copied<std::uint8_t>(space_.spikes);
    for (std::size_t i = 0; i < engine_.network_.layers.size(); ++i) {
      const Neurons& layer = engine_.network_.layers[i];
      Out<std::uint8_t> spikes({static_cast<std::size_t>(layer.positions) * static_cast<std::size_t>(layer.channels)});
      engine_.unpack(static_cast<int>(i), space_, spikes.data);
      result[layer.name.c_str()] = spikes.array();
    }
    result["output"] = copied<std::uint8_t>(space_.output);
    Out<std::int32_t> traces({kPixels});
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      traces.data[pixel] = space_.traces[pixel / kSide * kRow + pixel % kSide];
    }
    result["traces"] = traces.array();
    result["potential"] = copied<std::int32_t>(space_.potential);
    result["feedback"] = copied<std::int32_t>(space_.feedback);
    result["spike_probability"] = copied<float>(space_.probability);
    return result;
  }

 private:
  static const std::uint8_t* seen(const In<std::uint8_t>& image) {
    check(image.size() == kPixels, "784 pixels");
    thread_local std::array<std::uint8_t, kPixels> contrast;
    see_contrast(image.data(), contrast.data());
    return contrast.data();
  }
  template <class T, class Values>
  static nb::object copied(const Values& values) {
    Out<T> result({values.size()});
    std::copy(values.begin(), values.end(), result.data);
    return result.array();
  }

  const Engine& engine_;
  Workspace space_;
  Encoder encoder_;
  int t_ = 0;  // steps so far
};

// Computes the contrast of images uint8 [N, ...]: uint8 [N, 784].
nb::object contrast(In<std::uint8_t> images) {
  if (images.size() % kPixels) throw std::invalid_argument("expected 784 pixels an image");
  const std::size_t count = images.size() / kPixels;
  Out<std::uint8_t> result({count, kPixels});
  {
    nb::gil_scoped_release released;
    for (std::size_t i = 0; i < count; ++i) {
      see_contrast(images.data() + i * kPixels, result.data + i * kPixels);
    }
  }
  return result.array();
}

// Undoes the filters of a PNG's rows (`spikehead.pictures.png`): bytes [height * (1 + width)] -> uint8 [height, width],
// one byte a pixel. None if a row has a filter that PNG does not define.
nb::object unfiltered(const nb::bytes& rows, int height, int width) {
  check(height >= 1 && width >= 1 &&
            rows.size() == static_cast<std::size_t>(height) * (static_cast<std::size_t>(width) + 1),
        "a filter and as many bytes as the picture is wide for each row");
  Out<std::uint8_t> picture({static_cast<std::size_t>(height), static_cast<std::size_t>(width)});
  const auto* from = reinterpret_cast<const std::uint8_t*>(rows.c_str());
  const std::vector<std::uint8_t> nothing(static_cast<std::size_t>(width), 0);
  const std::uint8_t* above = nothing.data();
  for (int y = 0; y < height; ++y, from += width + 1) {
    std::uint8_t* row = picture.data + static_cast<std::ptrdiff_t>(y) * width;
    const int filter = from[0];
    if (filter > 4) return nb::none();
    for (int x = 0; x < width; ++x) {
      const int left = x ? row[x - 1] : 0, up = above[x], corner = x ? above[x - 1] : 0;
      int guess = 0;
      if (filter == 1) guess = left;
      else if (filter == 2) guess = up;
      else if (filter == 3) guess = (left + up) / 2;
      else if (filter == 4) {
        const int to_left = std::abs(up - corner), to_up = std::abs(left - corner),
                  to_corner = std::abs(left + up - 2 * corner);
        guess = to_left <= to_up && to_left <= to_corner ? left : to_up <= to_corner ? up : corner;
      }
      row[x] = static_cast<std::uint8_t>(from[x + 1] + guess);
    }
    above = row;
  }
  return picture.array();
}

// Tells if 28 x 28 pixels are in MNIST's form.
bool in_form(In<std::uint8_t> image, double centred, int smallest, int largest) {
  if (image.size() != kPixels) throw std::invalid_argument("expected 784 pixels");
  return has_form(image.data(), {centred, smallest, largest});
}

// Draws everything random of one image: spikes uint8 [T, 784], uniforms float32 [T, 10].
nb::tuple encode(In<std::uint8_t> contrast, std::uint64_t seed, int steps, bool regular, int slope) {
  if (contrast.size() != kPixels || steps < 0) throw std::invalid_argument("expected 784 pixels and steps from 0");
  if (slope < 1 || slope > 16) throw std::invalid_argument("expected a slope from 1 to 16");
  Out<std::uint8_t> spikes({static_cast<std::size_t>(steps), kPixels});
  Out<float> uniforms({static_cast<std::size_t>(steps), kClasses});
  Encoder encoder(contrast.data(), seed, regular, slope);
  for (int t = 0; t < steps; ++t) encoder.step(spikes.data + t * kPixels, uniforms.data + t * kClasses);
  return nb::make_tuple(spikes.array(), uniforms.array());
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : available()) names.emplace_back(kernels->name);
  return names;
}

}  // namespace
}  // namespace spikehead

NB_MODULE(_core, module) {
  nb::set_leak_warnings(false);  // a process may end with a model loaded
  module.attr("interface") = 2;  // changes with what Python calls: a module that was built before is told by it
  using spikehead::Engine;
  nb::class_<Engine>(module, "Engine")
      .def(nb::init<const nb::dict&, const std::string&>(), nb::arg("arrays"), nb::arg("simd") = "auto")
      .def_prop_ro("simd", &Engine::simd)
      .def_prop_ro("layers", &Engine::layers)
      .def("bounds", &Engine::bounds)
      .def("classify", &Engine::classify, nb::arg("images"), nb::arg("seeds"), nb::arg("max_steps"),
           nb::arg("confidence"), nb::arg("scale"), nb::arg("regular") = false)
      .def("answers", &Engine::answers, nb::arg("images"), nb::arg("seeds"), nb::arg("max_steps"),
           nb::arg("confidence"), nb::arg("scale"), nb::arg("regular"), nb::arg("ids"), nb::arg("decode_ms"),
           nb::arg("words"))
      .def("by_step", &Engine::by_step, nb::arg("images"), nb::arg("seeds"), nb::arg("steps"), nb::arg("scale"),
           nb::arg("regular") = false)
      .def("run", &Engine::run, nb::arg("spikes"), nb::arg("uniforms"), nb::arg("max_steps"), nb::arg("confidence"),
           nb::arg("scale"))
      .def("record", &Engine::record, nb::arg("spikes"), nb::arg("uniforms"), nb::arg("max_steps"),
           nb::arg("confidence"), nb::arg("scale"));
  nb::class_<spikehead::Course>(module, "Course")
      .def(nb::init<const Engine&, spikehead::In<std::uint8_t>, std::uint64_t, bool>(), nb::keep_alive<1, 2>(),
           nb::arg("engine"), nb::arg("image"), nb::arg("seed"), nb::arg("regular") = false)
      .def("step", &spikehead::Course::step);
  module.def("contrast", &spikehead::contrast, nb::arg("images"));
  module.attr("retina_constants") = spikehead::kRetinaConstants;
  module.def("unfiltered", &spikehead::unfiltered, nb::arg("rows"), nb::arg("height"), nb::arg("width"),
             "Undo the filters of a PNG's rows.");
  module.def("in_form", &spikehead::in_form, nb::arg("image"), nb::arg("centred"), nb::arg("smallest"),
             nb::arg("largest"));
  module.def("encode", &spikehead::encode, nb::arg("contrast"), nb::arg("seed"), nb::arg("steps"),
             nb::arg("regular") = false, nb::arg("slope") = 1);
  module.def("instruction_sets", &spikehead::instruction_sets);
}
