// One token from each row of logits: the pipeline of pallas_kernels/token_choice, a row at a time.
//
// All three filters keep the logits above a threshold.  Top-k's and top-p's are found by bisection
// over the bit patterns of floats, which order as integers do; nothing is sorted.

#include <limits>
#include <vector>

#include "lanes.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jpaged {
namespace {

constexpr int kSegment = 256;  // tokens summed together
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Choice {
  float u, temperature, top_p, min_p;
  int32_t top_k;
};

// Integers that compare as the floats do (as signed numbers); -0 equals 0.
inline Ints order_key(Floats x) {
  const Ints bits = reinterpret<Ints>(x + 0.f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

typedef std::vector<Floats> Registers;

// A row of logits, its last register filled up with -inf.  `warm` and `weights` are room to work
// in: fresh pages of memory for every row would cost more than the work.
class Row {
 public:
  Row(const float* logits, int64_t size, Registers& warm, Registers& weights)
      : size_(size), warm_(warm), weights_(weights) {
    warm_.resize((size + kLanes - 1) / kLanes);
    weights_.resize(warm_.size());
    for (int64_t i = 0; i < int64_t(warm_.size()); i++) {
      const int64_t first = i * kLanes, count = std::min<int64_t>(kLanes, size - first);
      warm_[i] = spread(kNothing);
      std::memcpy(&warm_[i], logits + first, count * sizeof(float));
    }
  }

  // The first of the largest; the last token if all are NaN.
  int32_t likeliest() const {
    const float top = peak();
    for (int64_t i = 0; i < int64_t(warm_.size()); i++) {
      if (largest(select(warm_[i] == top, spread(1.f), Floats{})) == 0) continue;
      for (int lane = 0; lane < kLanes; lane++)
        if (warm_[i][lane] == top) return std::min(i * kLanes + lane, size_ - 1);
    }
    return size_ - 1;
  }

  int32_t draw(const Choice& choice) {
    for (Floats& x : warm_) x = x / choice.temperature;
    if (choice.top_k > 0 && choice.top_k < size_) keep_top_k(choice.top_k);
    if (choice.top_p < 1) keep_top_p(choice.top_p);
    if (choice.min_p > 0) keep_min_p(choice.min_p);
    return pick(choice.u);
  }

 private:
  float peak() const {
    Floats top = spread(kNothing);
    for (const Floats& x : warm_) top = larger(x, top);
    return largest(top);
  }

  // The least key for which `holds`, which stays true once it is.
  template <class Holds> static int32_t smallest_threshold(Holds holds) {
    int64_t low = std::numeric_limits<int32_t>::min(), high = std::numeric_limits<int32_t>::max();
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (holds(int32_t(middle))) high = middle;
      else low = middle + 1;
    }
    return int32_t(low);
  }

  void keep_from(int32_t key) {
    for (Floats& x : warm_) x = select(order_key(x) >= key, x, spread(kNothing));
  }

  // Keeps the k largest, and what ties with the last.
  void keep_top_k(int32_t k) {
    keep_from(smallest_threshold([&](int32_t key) {
      Ints more = {};
      for (const Floats& x : warm_) more -= order_key(x) > key;  // true is -1
      int32_t count = 0;
      for (int lane = 0; lane < kLanes; lane++) count += more[lane];
      return count < k;
    }));
  }

  // Keeps the fewest likeliest tokens whose probabilities reach p, and what ties with the last.
  void keep_top_p(float p) {
    const float top = peak();
    double all = 0;
    for (size_t i = 0; i < warm_.size(); i++) {
      weights_[i] = exponential(warm_[i] - top);
      all += total(weights_[i]);
    }
    keep_from(smallest_threshold([&](int32_t key) {
      Floats above = {};
      for (size_t i = 0; i < warm_.size(); i++)
        above += select(order_key(warm_[i]) > key, weights_[i], Floats{});
      return total(above) < p * all;
    }));
  }

  // Keeps what is at least min_p times as likely as the likeliest.
  void keep_min_p(float min_p) {
    const float top = peak();
    for (Floats& x : warm_) x = select(exponential(x - top) >= min_p, x, spread(kNothing));
  }

  // The token at which the cumulative distribution passes u: first its segment, then the token.
  int32_t pick(float u) const {
    constexpr int kRegisters = kSegment / kLanes;
    const float top = peak();
    const int64_t registers = warm_.size(), segments = (registers + kRegisters - 1) / kRegisters;
    std::vector<float> masses(segments);
    double all = 0;
    for (int64_t s = 0; s < segments; s++) {
      Floats sum = {};
      for (int64_t i = s * kRegisters; i < std::min(registers, (s + 1) * kRegisters); i++)
        sum += exponential(warm_[i] - top);
      all += masses[s] = total(sum);
    }
    double left = u * all;
    int64_t segment = 0, last = 0;
    for (; segment < segments; segment++) {
      if (masses[segment] > 0) last = segment;
      if (left < masses[segment]) break;
      left -= masses[segment];
    }
    return token_in(std::min(segment, last), left, top);
  }

  // The first token of the segment that `left` does not reach beyond, else its last possible one.
  int32_t token_in(int64_t segment, double left, float top) const {
    const int64_t first = segment * kSegment, end = std::min(size_, first + kSegment);
    int64_t chosen = end - 1;
    for (int64_t token = first; token < end; token++) {
      const Floats weights = exponential(warm_[token / kLanes] - top);
      const float weight = weights[token % kLanes];
      if (!(weight > 0)) continue;
      chosen = token;
      if (left < weight) break;
      left -= weight;
    }
    return chosen;
  }

  int64_t size_;
  Registers &warm_, &weights_;
};

using xla::ffi::Buffer;
using xla::ffi::DataType;
using Numbers = Buffer<DataType::F32>;
using Counts = Buffer<DataType::S32>;

template <class Threads>
void choose(Threads& threads, const float* logits, int64_t rows, int64_t size,
            const Choice* choices, int32_t* tokens) {
  parallel_for(threads, rows, [=](int64_t r) {
    static thread_local Registers warm, weights;
    Row row(logits + r * size, size, warm, weights);
    tokens[r] = choices[r].temperature == 0 ? row.likeliest() : row.draw(choices[r]);
  });
}

xla::ffi::Error choose_tokens(xla::ffi::ThreadPool threads, Numbers logits, Numbers u,
                              Numbers temperature, Counts top_k, Numbers top_p, Numbers min_p,
                              xla::ffi::Result<Counts> tokens) {
  const auto dims = logits.dimensions();
  const int64_t rows = dims[0], size = dims[1];
  for (int64_t count : {u.element_count(), temperature.element_count(), top_k.element_count(),
                        top_p.element_count(), min_p.element_count(), tokens->element_count()})
    if (int64_t(count) != rows) return xla::ffi::Error::InvalidArgument("choose_tokens: rows differ");
  if (size < 1) return xla::ffi::Error::InvalidArgument("choose_tokens: there is no vocabulary");
  std::vector<Choice> choices(rows);
  for (int64_t r = 0; r < rows; r++)
    choices[r] = {u.typed_data()[r], temperature.typed_data()[r], top_p.typed_data()[r],
                  min_p.typed_data()[r], top_k.typed_data()[r]};
  choose(threads, logits.typed_data(), rows, size, choices.data(), tokens->typed_data());
  return xla::ffi::Error::Success();
}

}  // namespace
}  // namespace jpaged

XLA_FFI_DEFINE_HANDLER_SYMBOL(jpaged_choose_tokens, jpaged::choose_tokens,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<jpaged::Numbers>()
                                  .Arg<jpaged::Numbers>()
                                  .Arg<jpaged::Numbers>()
                                  .Arg<jpaged::Counts>()
                                  .Arg<jpaged::Numbers>()
                                  .Arg<jpaged::Numbers>()
                                  .Ret<jpaged::Counts>());
