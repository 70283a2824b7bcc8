// Paged attention on the CPU: the ragged batch of pallas_kernels/paged_attention, without padding.
//
// The work is cut into items of one sequence, one kv head and a few queries.  An item's rows are
// its (query, query head) pairs.  It walks the keys a chunk at a time:
//
//     scores   sixteen keys are turned on their side, then every row meets them at once
//     softmax  running peak and total (Milakov and Gimelshein, 2018)
//     values   sixteen tokens' values, paired for `dot`, are added under the rows' weights
//
// Tokens are addressed one by one through the page table, so any page size will do; places beyond
// the end of a sequence read as zeros, whatever lies in the page.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "lanes.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jpaged {
namespace {

constexpr int kChunk = 256;    // keys between two updates of the running softmax
constexpr int kMostRows = 32;  // of an item
constexpr int kMostDim = 256;  // of a head
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Shape {
  int tokens, heads, kv_heads, dim, num_pages, page_size, sequences, table_width;
  int group() const { return heads / kv_heads; }
};

struct Options {
  float scale, softcap;  // softcap 0: none
  int window;            // 0: none
  const float* sinks;    // one a head, or null
};

struct Item {
  int sequence, kv_head, first_query, last_query;
};

template <class E> struct Inputs {
  Shape shape;
  const E *q, *k_pages, *v_pages;
  const int32_t *pages, *query_starts, *lengths;
  E* out;
};

// What an item works on; one a thread, because it is large.
template <class E> struct Scratch {
  alignas(64) float scores[kMostRows][kChunk];
  alignas(64) E weights[kMostRows][kChunk];
  alignas(64) float sums[kMostRows][kMostDim];
  alignas(64) E queries[kMostRows][kMostDim];
  alignas(64) E padded[2][kMostDim];
  Words keys[kMostDim], values[kLanes * kMostDim / kLanes];
  float peak[kMostRows], totals[kMostRows];
  int first_key[kMostRows], end_key[kMostRows];  // what each row may see
};

// R rows against sixteen keys: keys[w] holds word w of all sixteen.
template <class E, int R>
void score_rows(const E (*queries)[kMostDim], const Words* keys, int words, float (*scores)[kChunk]) {
  Floats sums[R] = {};
  for (int w = 0; w < words; w++)
    for (int r = 0; r < R; r++) {
      uint32_t word;
      std::memcpy(&word, reinterpret_cast<const char*>(queries[r]) + 4 * w, 4);
      sums[r] = E::dot(sums[r], keys[w], spread(word));
    }
  for (int r = 0; r < R; r++) store(scores[r], sums[r]);
}

// R rows' weights of sixteen tokens times four vectors of their values.
template <class E, int R>
void add_values(const E (*weights)[kChunk], const Words* values, int vectors, float (*sums)[kMostDim]) {
  Floats acc[R][4];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < 4; c++) acc[r][c] = load<Floats>(sums[r] + kLanes * c);
  for (int t = 0; t < kLanes / E::kPerWord; t++)
    for (int r = 0; r < R; r++) {
      uint32_t word;
      std::memcpy(&word, reinterpret_cast<const char*>(weights[r]) + 4 * t, 4);
      for (int c = 0; c < 4; c++)
        acc[r][c] = E::dot(acc[r][c], values[t * vectors + c], spread(word));
    }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < 4; c++) store(sums[r] + kLanes * c, acc[r][c]);
}

template <class E> class Attention {
 public:
  Attention(const Inputs<E>& in, const Options& options)
      : in_(in), options_(options), words_(round_up(in.shape.dim / E::kPerWord, kLanes)),
        vectors_(round_up(in.shape.dim, 4 * kLanes) / kLanes) {}

  void run(const Item& item) const {
    static thread_local Scratch<E> scratch;
    Scratch<E>& s = scratch;
    const int rows = start(item, s);
    int first = s.first_key[0], end = s.end_key[0];
    for (int r = 1; r < rows; r++) {
      first = std::min(first, s.first_key[r]);
      end = std::max(end, s.end_key[r]);
    }
    for (int chunk = first / kLanes * kLanes; chunk < end; chunk += kChunk) {
      const int stop = std::min(end, chunk + kChunk);
      for (int t = chunk; t < stop; t += kLanes) score(item, s, rows, t, t - chunk, end);
      for (int r = 0; r < rows; r++) soften(s, r, chunk, stop);
      for (int t = chunk; t < stop; t += kLanes) add(item, s, rows, t, t - chunk, end);
    }
    finish(item, s, rows);
  }

 private:
  static int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

  // Copies the queries, and notes which keys each row may see.
  int start(const Item& item, Scratch<E>& s) const {
    const Shape& shape = in_.shape;
    const int end_query = in_.query_starts[item.sequence + 1];
    int rows = 0;
    for (int t = item.first_query; t < item.last_query; t++) {
      const int position = in_.lengths[item.sequence] - (end_query - t);
      for (int g = 0; g < shape.group(); g++, rows++) {
        const int head = item.kv_head * shape.group() + g;
        std::memset(s.queries[rows], 0, sizeof s.queries[rows]);
        std::memcpy(s.queries[rows], in_.q + (int64_t(t) * shape.heads + head) * shape.dim,
                    shape.dim * sizeof(E));
        s.end_key[rows] = position + 1;
        s.first_key[rows] = options_.window ? std::max(0, position + 1 - options_.window) : 0;
        s.peak[rows] = options_.sinks ? options_.sinks[head] : kNothing;
        s.totals[rows] = options_.sinks ? 1.f : 0.f;
        std::memset(s.sums[rows], 0, sizeof s.sums[rows]);
      }
    }
    return rows;
  }

  // A token's key or value; a row of zeros from the sequence's end on.
  const E* row(const E* pages, const Item& item, int token, int end) const {
    alignas(64) static const E zeros[kMostDim] = {};
    if (token >= end) return zeros;
    const Shape& shape = in_.shape;
    const int64_t page =
        in_.pages[int64_t(item.sequence) * shape.table_width + token / shape.page_size];
    return pages + ((page * shape.kv_heads + item.kv_head) * shape.page_size +
                    token % shape.page_size) * shape.dim;
  }

  // Sixteen elements of words from `at` on; zeros behind the row's end.
  Words words_of(const E* row, int at) const {
    const int left = in_.shape.dim / E::kPerWord - at;
    if (left >= kLanes) return load<Words>(reinterpret_cast<const char*>(row) + 4 * at);
    uint32_t padded[kLanes] = {};
    std::memcpy(padded, reinterpret_cast<const char*>(row) + 4 * at, 4 * left);
    return load<Words>(padded);
  }

  void score(const Item& item, Scratch<E>& s, int rows, int token, int column, int end) const {
    const E* keys[kLanes];
    for (int i = 0; i < kLanes; i++) keys[i] = row(in_.k_pages, item, token + i, end);
    for (int at = 0; at < words_; at += kLanes) {
      Words square[kLanes];
      for (int i = 0; i < kLanes; i++) square[i] = words_of(keys[i], at);
      transpose(square);
      for (int i = 0; i < kLanes; i++) s.keys[at + i] = square[i];
    }
    auto scores = [&](int r) { return reinterpret_cast<float(*)[kChunk]>(&s.scores[r][column]); };
    int r = 0;
    for (; r + 8 <= rows; r += 8) score_rows<E, 8>(s.queries + r, s.keys, words_, scores(r));
    for (; r + 3 <= rows; r += 3) score_rows<E, 3>(s.queries + r, s.keys, words_, scores(r));
    for (; r < rows; r++) score_rows<E, 1>(s.queries + r, s.keys, words_, scores(r));
  }

  // Turns a row's scores of one chunk into weights, and rescales what the row has summed so far.
  void soften(Scratch<E>& s, int r, int chunk, int stop) const {
    const int blocks = round_up(stop - chunk, kLanes) / kLanes;
    Floats peak = spread(s.peak[r]);
    for (int b = 0; b < blocks; b++) {
      float* at = s.scores[r] + b * kLanes;
      Floats x = load<Floats>(at) * options_.scale;
      if (options_.softcap) x = options_.softcap * hyperbolic_tangent(x / options_.softcap);
      x = select(visible(s, r, chunk + b * kLanes), x, spread(kNothing));
      store(at, x);
      peak = larger(x, peak);
    }
    const float new_peak = largest(peak);
    if (new_peak == kNothing) {  // nothing seen yet: -inf - -inf would be NaN
      std::memset(s.weights[r], 0, sizeof s.weights[r]);
      return;
    }
    const float shrink = s.peak[r] == kNothing ? 0.f : std::exp(s.peak[r] - new_peak);
    Floats sum = {};
    for (int b = 0; b < blocks; b++) {
      const Floats x = load<Floats>(s.scores[r] + b * kLanes);
      const Floats weight = select(x > kNothing, exponential(x - new_peak), Floats{});
      sum += weight;
      E::put(s.weights[r] + b * kLanes, weight);
    }
    s.totals[r] = s.totals[r] * shrink + total(sum);
    s.peak[r] = new_peak;
    if (shrink != 1.f)
      for (int c = 0; c < vectors_; c++) {
        float* at = s.sums[r] + c * kLanes;
        store(at, load<Floats>(at) * shrink);
      }
  }

  static Ints visible(const Scratch<E>& s, int r, int token) {
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (lane + token >= s.first_key[r]) & (lane + token < s.end_key[r]);
  }

  void add(const Item& item, Scratch<E>& s, int rows, int token, int column, int end) const {
    constexpr int kStep = E::kPerWord;
    for (int t = 0; t < kLanes; t += kStep) {
      const E* first = row(in_.v_pages, item, token + t, end);
      const E* second = row(in_.v_pages, item, token + t + kStep - 1, end);
      if (vectors_ * kLanes != in_.shape.dim) {  // a head that does not fill its vectors
        first = padded(first, s.padded[0]);
        second = padded(second, s.padded[1]);
      }
      for (int c = 0; c < vectors_; c++)
        s.values[t / kStep * vectors_ + c] = pair_rows(first + c * kLanes, second + c * kLanes);
    }
    for (int c = 0; c < vectors_; c += 4) {
      auto weights = [&](int r) { return reinterpret_cast<E(*)[kChunk]>(&s.weights[r][column]); };
      auto sums = [&](int r) { return reinterpret_cast<float(*)[kMostDim]>(&s.sums[r][c * kLanes]); };
      int r = 0;
      for (; r + 4 <= rows; r += 4)
        add_values<E, 4>(weights(r), s.values + c, vectors_, sums(r));
      for (; r + 3 <= rows; r += 3)
        add_values<E, 3>(weights(r), s.values + c, vectors_, sums(r));
      for (; r < rows; r++) add_values<E, 1>(weights(r), s.values + c, vectors_, sums(r));
    }
  }

  const E* padded(const E* row, E* room) const {
    std::memset(room, 0, vectors_ * kLanes * sizeof(E));
    std::memcpy(room, row, in_.shape.dim * sizeof(E));
    return room;
  }

  void finish(const Item& item, Scratch<E>& s, int rows) const {
    const Shape& shape = in_.shape;
    for (int r = 0; r < rows; r++) {
      const int token = item.first_query + r / shape.group();
      const int head = item.kv_head * shape.group() + r % shape.group();
      const float share = s.totals[r] > 0 ? 1.f / s.totals[r] : 0.f;
      alignas(64) E row[kMostDim];
      for (int c = 0; c < vectors_; c++)
        E::put(row + c * kLanes, load<Floats>(s.sums[r] + c * kLanes) * share);
      std::memcpy(in_.out + (int64_t(token) * shape.heads + head) * shape.dim, row,
                  shape.dim * sizeof(E));
    }
  }

  Inputs<E> in_;
  Options options_;
  int words_, vectors_;  // of a head, rounded up to whole registers
};

// Refuses what would read or write outside the arrays.
template <class E> const char* problem_of(const Inputs<E>& in) {
  const Shape& s = in.shape;
  if (s.kv_heads < 1 || s.heads % s.kv_heads) return "heads are no multiple of kv_heads";
  if (s.dim < 1 || s.dim > kMostDim || s.dim % E::kPerWord) return "unsupported head_dim";
  if (s.group() > kMostRows) return "too many query heads a kv head";
  if (in.query_starts[0] < 0 || in.query_starts[s.sequences] > s.tokens)
    return "query_starts lie outside the tokens";
  for (int b = 0; b < s.sequences; b++) {
    const int queries = in.query_starts[b + 1] - in.query_starts[b];
    if (queries < 0) return "query_starts decrease";
    if (queries == 0) continue;
    if (in.lengths[b] < queries) return "a sequence is shorter than its queries";
    const int64_t used = (int64_t(in.lengths[b]) + s.page_size - 1) / s.page_size;
    if (used > s.table_width) return "a sequence is longer than its page table";
    for (int64_t i = 0; i < used; i++) {
      const int32_t page = in.pages[int64_t(b) * s.table_width + i];
      if (page < 0 || page >= s.num_pages) return "a page lies outside the cache";
    }
  }
  return nullptr;
}

// Fills in.out.  The inputs have no problem.
template <class E, class Threads>
void attend(Threads& threads, const Inputs<E>& in, const Options& options) {
  const Shape& shape = in.shape;
  if (!shape.tokens) return;
  const int64_t row = int64_t(shape.heads) * shape.dim, used = in.query_starts[shape.sequences];
  std::memset(in.out, 0, in.query_starts[0] * row * sizeof(E));
  std::memset(in.out + used * row, 0, (shape.tokens - used) * row * sizeof(E));
  const int queries = std::max(1, 24 / shape.group());  // a tile's rows fill the registers
  std::vector<Item> items;
  for (int b = 0; b < shape.sequences; b++)
    for (int h = 0; h < shape.kv_heads; h++)
      for (int t = in.query_starts[b]; t < in.query_starts[b + 1]; t += queries)
        items.push_back({b, h, t, std::min(t + queries, in.query_starts[b + 1])});
  const Attention<E> attention(in, options);
  // a few tasks a thread: items differ in length, and taking one costs an atomic
  const int64_t batch = std::max<int64_t>(1, items.size() / 64);
  const int64_t tasks = (items.size() + batch - 1) / batch;
  const Item* first = items.data();
  const int64_t count = items.size();
  parallel_for(threads, tasks, [&attention, first, count, batch](int64_t task) {
    for (int64_t i = task * batch; i < std::min(count, (task + 1) * batch); i++)
      attention.run(first[i]);
  });
}

using xla::ffi::AnyBuffer;
using xla::ffi::Buffer;
using xla::ffi::DataType;
using Ids = Buffer<DataType::S32>;

xla::ffi::Error paged_attention(xla::ffi::ThreadPool threads, AnyBuffer q, AnyBuffer k_pages,
                                AnyBuffer v_pages, Ids pages, Ids query_starts, Ids lengths,
                                Buffer<DataType::F32> sinks, xla::ffi::Result<AnyBuffer> out,
                                float scale, float softcap, int32_t window) {
  const auto qd = q.dimensions(), kd = k_pages.dimensions(), td = pages.dimensions();
  const Shape shape{int(qd[0]), int(qd[1]), int(kd[1]), int(qd[2]),
                    int(kd[0]), int(kd[2]), int(td[0]), int(td[1])};
  const Options options{scale, softcap, window,
                        sinks.element_count() ? sinks.typed_data() : nullptr};
  auto run = [&](auto element) {
    using E = decltype(element);
    const Inputs<E> in{shape, static_cast<const E*>(q.untyped_data()),
                       static_cast<const E*>(k_pages.untyped_data()),
                       static_cast<const E*>(v_pages.untyped_data()), pages.typed_data(),
                       query_starts.typed_data(), lengths.typed_data(),
                       static_cast<E*>(out->untyped_data())};
    if (const char* problem = problem_of(in))
      return xla::ffi::Error::InvalidArgument(std::string("paged_attention: ") + problem);
    attend(threads, in, options);
    return xla::ffi::Error::Success();
  };
  return q.element_type() == DataType::BF16 ? run(Bf16{}) : run(F32{});
}

}  // namespace
}  // namespace jpaged

XLA_FFI_DEFINE_HANDLER_SYMBOL(jpaged_paged_attention, jpaged::paged_attention,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::DataType::F32>>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<float>("scale")
                                  .Attr<float>("softcap")
                                  .Attr<int32_t>("window"));
