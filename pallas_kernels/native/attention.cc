// Paged attention on the CPU: writes a ragged batch's keys and values into their pages, then
// attends.  No row is padding.
//
// A page of one head is a row of tiles, each of sixteen tokens.  Within a tile the elements lie in
// the order in which they are multiplied, so nothing is rearranged when they are read, which is
// far more often than they are written:
//
//     keys    [words of the head][16 tokens]             a word: two neighbouring dimensions
//     values  [16 tokens, or 8 pairs of them][head]      a word: two neighbouring tokens
//
// (A float has its word to itself.)  tiles.py says the same in XLA.
//
// The work is cut into items of one sequence, one kv head and a few queries.  An item's rows are
// its (query, query head) pairs; it walks the keys a chunk at a time, with a running softmax
// (Milakov and Gimelshein, 2018).

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "lanes.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jpaged {
namespace {

constexpr int kTile = kLanes;  // tokens
constexpr int kChunk = 256;    // keys between two updates of the running softmax
constexpr int kMostRows = 32;  // of an item
constexpr int kMostDim = 256;  // of a head
constexpr int kTilesAhead = 2;  // fetched before they are needed: pages may lie anywhere
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Shape {
  int tokens, heads, kv_heads, dim, num_pages, page_size, sequences, table_width;
  int group() const { return heads / kv_heads; }
  int64_t slots() const { return int64_t(num_pages) * page_size; }
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
  const E *q, *k, *v;
  E *k_pages, *v_pages;
  const int32_t *pages, *write_slots, *query_starts, *lengths;
  E* out;

  // The tile of a token, by its place in the cache.
  int64_t tile(int64_t page, int head, int place) const {
    const int64_t token = (page * shape.kv_heads + head) * shape.page_size + place / kTile * kTile;
    return token * shape.dim;
  }
};

// Puts one token's keys and values into its slot; a slot outside the cache is padding.
template <class E> void write_token(const Inputs<E>& in, int token) {
  constexpr int kPer = E::kPerWord;
  const Shape& s = in.shape;
  const int64_t slot = in.write_slots[token];
  if (slot < 0 || slot >= s.slots()) return;
  const int place = slot % s.page_size, lane = place % kTile;
  for (int h = 0; h < s.kv_heads; h++) {
    const int64_t tile = in.tile(slot / s.page_size, h, place);
    const int64_t from = (int64_t(token) * s.kv_heads + h) * s.dim;
    E* keys = in.k_pages + tile + lane * kPer;
    for (int d = 0; d < s.dim; d += kPer)
      std::memcpy(keys + d * kTile, in.k + from + d, kPer * sizeof(E));
    E* values = in.v_pages + tile + lane / kPer * s.dim * kPer + lane % kPer;
    for (int d = 0; d < s.dim; d++) values[d * kPer] = in.v[from + d];
  }
}

// What an item works on; one a thread, because it is large.
template <class E> struct Scratch {
  alignas(64) float scores[kMostRows][kChunk];
  alignas(64) E weights[kMostRows][kChunk];
  alignas(64) float sums[kMostRows][kMostDim];
  alignas(64) E queries[kMostRows][kMostDim];
  alignas(64) E values[kTile * kMostDim];
  float peak[kMostRows], totals[kMostRows];
  int first_key[kMostRows], end_key[kMostRows];  // what each row may see
};

// R rows against a tile's keys: a word of all sixteen at a time.
template <class E, int R>
void score_rows(const E (*queries)[kMostDim], const E* keys, int words, float (*scores)[kChunk]) {
  constexpr int kSets = R < 4 ? 4 : 1;  // few rows would wait for each sum in turn
  Floats sums[kSets][R] = {};
  for (int w = 0; w < words; w += kSets)
    for (int set = 0; set < kSets; set++) {
      const Words key = load<Words>(keys + (w + set) * kTile * E::kPerWord);
      for (int r = 0; r < R; r++)
        sums[set][r] = E::dot(sums[set][r], key, word_at(queries[r], w + set));
    }
  for (int r = 0; r < R; r++) {
    for (int set = 1; set < kSets; set++) sums[0][r] += sums[set][r];
    store(scores[r], sums[0][r]);
  }
}

// R rows' weights of a tile times C registers of its values.
template <class E, int R, int C>
void add_values(const E (*weights)[kChunk], const E* values, int dim, float (*sums)[kMostDim]) {
  Floats acc[R][C];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) acc[r][c] = load<Floats>(sums[r] + kLanes * c);
  for (int t = 0; t < kTile / E::kPerWord; t++) {
    Words value[C];
    for (int c = 0; c < C; c++)
      value[c] = load<Words>(values + (t * dim + c * kLanes) * E::kPerWord);
    for (int r = 0; r < R; r++) {
      const Words weight = word_at(weights[r], t);
      for (int c = 0; c < C; c++) acc[r][c] = E::dot(acc[r][c], value[c], weight);
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) store(sums[r] + kLanes * c, acc[r][c]);
}

template <class E> class Attention {
 public:
  Attention(const Inputs<E>& in, const Options& options) : in_(in), options_(options) {}

  void run(const Item& item) const {
    static thread_local Scratch<E> scratch;
    Scratch<E>& s = scratch;
    const int rows = start(item, s);
    const int first = *std::min_element(s.first_key, s.first_key + rows);
    const int end = *std::max_element(s.end_key, s.end_key + rows);
    for (int chunk = first / kTile * kTile; chunk < end; chunk += kChunk) {
      const int stop = std::min(end, chunk + kChunk);
      for (int t = chunk; t < stop; t += kTile) score(item, s, rows, t, t - chunk, end);
      for (int r = 0; r < rows; r++) soften(s, r, chunk, stop);
      for (int t = chunk; t < stop; t += kTile) add(item, s, rows, t, t - chunk, end);
    }
    finish(item, s, rows);
  }

 private:
  // Copies the queries, and notes which keys each row may see.
  int start(const Item& item, Scratch<E>& s) const {
    const Shape& shape = in_.shape;
    const int end_query = in_.query_starts[item.sequence + 1];
    int rows = 0;
    for (int t = item.first_query; t < item.last_query; t++) {
      const int position = in_.lengths[item.sequence] - (end_query - t);
      for (int g = 0; g < shape.group(); g++, rows++) {
        const int head = item.kv_head * shape.group() + g;
        std::memcpy(s.queries[rows], in_.q + (int64_t(t) * shape.heads + head) * shape.dim,
                    shape.dim * sizeof(E));
        s.end_key[rows] = position + 1;
        s.first_key[rows] = options_.window ? std::max(0, position + 1 - options_.window) : 0;
        s.peak[rows] = options_.sinks ? options_.sinks[head] : kNothing;
        s.totals[rows] = options_.sinks ? 1.f : 0.f;
        std::memset(s.sums[rows], 0, shape.dim * sizeof(float));
      }
    }
    return rows;
  }

  // A tile of keys or values; asks for one further on.
  const E* tile(const E* pages, const Item& item, int token, int end) const {
    const int ahead = token + kTilesAhead * kTile;
    if (ahead < end) {
      const char* next = reinterpret_cast<const char*>(find(pages, item, ahead));
      for (int at = 0; at < int(kTile * in_.shape.dim * sizeof(E)); at += 64)
        __builtin_prefetch(next + at);
    }
    return find(pages, item, token);
  }

  const E* find(const E* pages, const Item& item, int token) const {
    const Shape& s = in_.shape;
    const int64_t row = int64_t(item.sequence) * s.table_width;
    return pages + in_.tile(in_.pages[row + token / s.page_size], item.kv_head,
                            token % s.page_size);
  }

  void score(const Item& item, Scratch<E>& s, int rows, int token, int column, int end) const {
    const E* keys = tile(in_.k_pages, item, token, end);
    const int words = in_.shape.dim / E::kPerWord;
    auto scores = [&](int r) { return reinterpret_cast<float(*)[kChunk]>(&s.scores[r][column]); };
    int r = 0;
    for (; r + 12 <= rows; r += 12) score_rows<E, 12>(s.queries + r, keys, words, scores(r));
    for (; r + 4 <= rows; r += 4) score_rows<E, 4>(s.queries + r, keys, words, scores(r));
    for (; r + 3 <= rows; r += 3) score_rows<E, 3>(s.queries + r, keys, words, scores(r));
    for (; r < rows; r++) score_rows<E, 1>(s.queries + r, keys, words, scores(r));
  }

  // Turns a row's scores of one chunk into weights, and rescales what the row has summed so far.
  void soften(Scratch<E>& s, int r, int chunk, int stop) const {
    const int tiles = (stop - chunk + kTile - 1) / kTile;
    Floats peak = spread(s.peak[r]);
    for (int t = 0; t < tiles; t++) {
      float* at = s.scores[r] + t * kTile;
      Floats x = load<Floats>(at) * options_.scale;
      if (options_.softcap) x = options_.softcap * hyperbolic_tangent(x / options_.softcap);
      const int token = chunk + t * kTile;
      if (token < s.first_key[r] || token + kTile > s.end_key[r])
        x = select(visible(s, r, token), x, spread(kNothing));
      store(at, x);
      peak = larger(x, peak);
    }
    const float new_peak = largest(peak);
    if (new_peak == kNothing) {  // nothing seen yet: -inf - -inf would be NaN
      std::memset(s.weights[r], 0, tiles * kTile * sizeof(E));
      return;
    }
    Floats sum = {};
    for (int t = 0; t < tiles; t++) {
      const Floats weight = exponential(load<Floats>(s.scores[r] + t * kTile) - new_peak);
      sum += weight;
      E::put(s.weights[r] + t * kTile, weight);
    }
    const float shrink = s.peak[r] == kNothing ? 0.f : std::exp(s.peak[r] - new_peak);
    s.totals[r] = s.totals[r] * shrink + total(sum);
    s.peak[r] = new_peak;
    if (shrink != 1.f)
      for (int d = 0; d < in_.shape.dim; d += kLanes)
        store(s.sums[r] + d, load<Floats>(s.sums[r] + d) * shrink);
  }

  static Ints visible(const Scratch<E>& s, int r, int token) {
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (lane + token >= s.first_key[r]) & (lane + token < s.end_key[r]);
  }

  void add(const Item& item, Scratch<E>& s, int rows, int token, int column, int end) const {
    const E* values = tile(in_.v_pages, item, token, end);
    if (end - token < kTile) values = without_tail(values, s, end - token);
    int d = 0;
    for (; d + 4 * kLanes <= in_.shape.dim; d += 4 * kLanes) add_all<4>(s, rows, column, values, d);
    for (; d < in_.shape.dim; d += kLanes) add_all<1>(s, rows, column, values, d);
  }

  template <int C>
  void add_all(Scratch<E>& s, int rows, int column, const E* values, int d) const {
    values += d * E::kPerWord;
    const int dim = in_.shape.dim;
    auto weights = [&](int r) { return reinterpret_cast<E(*)[kChunk]>(&s.weights[r][column]); };
    auto sums = [&](int r) { return reinterpret_cast<float(*)[kMostDim]>(&s.sums[r][d]); };
    int r = 0;
    for (; r + 6 <= rows; r += 6) add_values<E, 6, C>(weights(r), values, dim, sums(r));
    for (; r + 3 <= rows; r += 3) add_values<E, 3, C>(weights(r), values, dim, sums(r));
    for (; r < rows; r++) add_values<E, 1, C>(weights(r), values, dim, sums(r));
  }

  // A copy of a tile with zeros behind its first tokens: what lies there may be anything, and
  // 0 * NaN is NaN.
  const E* without_tail(const E* values, Scratch<E>& s, int tokens) const {
    const int dim = in_.shape.dim, whole = tokens / E::kPerWord * E::kPerWord;
    std::memset(s.values, 0, kTile * dim * sizeof(E));
    std::memcpy(s.values, values, whole * dim * sizeof(E));
    for (int at = whole * dim; whole < tokens && at < (whole + E::kPerWord) * dim; at += E::kPerWord)
      s.values[at] = values[at];
    return s.values;
  }

  void finish(const Item& item, Scratch<E>& s, int rows) const {
    const Shape& shape = in_.shape;
    for (int r = 0; r < rows; r++) {
      const int token = item.first_query + r / shape.group();
      const int head = item.kv_head * shape.group() + r % shape.group();
      const float share = s.totals[r] > 0 ? 1.f / s.totals[r] : 0.f;
      E* row = in_.out + (int64_t(token) * shape.heads + head) * shape.dim;
      for (int d = 0; d < shape.dim; d += kLanes)
        E::put(row + d, load<Floats>(s.sums[r] + d) * share);
    }
  }

  Inputs<E> in_;
  Options options_;
};

// Refuses what would read or write outside the arrays.
template <class E> const char* problem_of(const Inputs<E>& in) {
  const Shape& s = in.shape;
  if (s.kv_heads < 1 || s.heads % s.kv_heads) return "heads are no multiple of kv_heads";
  if (s.dim < 1 || s.dim > kMostDim || s.dim % kLanes) return "unsupported head_dim";
  if (s.group() > kMostRows) return "too many query heads a kv head";
  if (s.page_size < 1 || s.page_size % kTile) return "page_size is no multiple of 16";
  if (in.query_starts[0] < 0 || in.query_starts[s.sequences] > s.tokens)
    return "query_starts lie outside the tokens";
  for (int b = 0; b < s.sequences; b++) {
    if (in.query_starts[b + 1] < in.query_starts[b]) return "query_starts decrease";
    if (in.query_starts[b + 1] > s.tokens) return "query_starts lie outside the tokens";
    const int queries = in.query_starts[b + 1] - in.query_starts[b];
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

template <class E, class Threads> void write(Threads& threads, const Inputs<E>& in) {
  constexpr int kTogether = 64;  // tokens a task
  const int tokens = in.shape.tokens;
  parallel_for(threads, (tokens + kTogether - 1) / kTogether, [&in, tokens](int64_t task) {
    const int first = task * kTogether;
    for (int t = first; t < std::min(tokens, first + kTogether); t++) write_token(in, t);
  });
}

// Fills in.out.  The inputs have no problem.
template <class E, class Threads>
void attend(Threads& threads, const Inputs<E>& in, const Options& options) {
  const Shape& shape = in.shape;
  if (!shape.tokens) return;
  const int64_t row = int64_t(shape.heads) * shape.dim, used = in.query_starts[shape.sequences];
  std::memset(in.out, 0, in.query_starts[0] * row * sizeof(E));
  std::memset(in.out + used * row, 0, (shape.tokens - used) * row * sizeof(E));
  const int queries = std::max(1, 24 / shape.group());  // rows that fill the registers, twice
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
using xla::ffi::Result;
using Ids = Buffer<DataType::S32>;

xla::ffi::Error paged_attention(xla::ffi::ThreadPool threads, AnyBuffer q, AnyBuffer k, AnyBuffer v,
                                AnyBuffer k_before, AnyBuffer v_before, Ids pages, Ids write_slots,
                                Ids query_starts, Ids lengths, Buffer<DataType::F32> sinks,
                                Result<AnyBuffer> out, Result<AnyBuffer> k_pages,
                                Result<AnyBuffer> v_pages, float scale, float softcap,
                                int32_t window) {
  if (k_pages->untyped_data() != k_before.untyped_data() ||
      v_pages->untyped_data() != v_before.untyped_data())
    return xla::ffi::Error::Internal("paged_attention: the cache is not written in place");
  const auto qd = q.dimensions(), kd = k_pages->dimensions(), td = pages.dimensions();
  const Shape shape{int(qd[0]), int(qd[1]), int(kd[1]), int(qd[2]),
                    int(kd[0]), int(kd[2]), int(td[0]), int(td[1])};
  const Options options{scale, softcap, window,
                        sinks.element_count() ? sinks.typed_data() : nullptr};
  auto run = [&](auto element) {
    using E = decltype(element);
    const Inputs<E> in{shape,
                       static_cast<const E*>(q.untyped_data()),
                       static_cast<const E*>(k.untyped_data()),
                       static_cast<const E*>(v.untyped_data()),
                       static_cast<E*>(k_pages->untyped_data()),
                       static_cast<E*>(v_pages->untyped_data()),
                       pages.typed_data(),
                       write_slots.typed_data(),
                       query_starts.typed_data(),
                       lengths.typed_data(),
                       static_cast<E*>(out->untyped_data())};
    if (const char* problem = problem_of(in))
      return xla::ffi::Error::InvalidArgument(std::string("paged_attention: ") + problem);
    write(threads, in);
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
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<jpaged::Ids>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::DataType::F32>>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<float>("scale")
                                  .Attr<float>("softcap")
                                  .Attr<int32_t>("window"));
