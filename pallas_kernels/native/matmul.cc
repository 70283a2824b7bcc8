// x @ w on the CPU, with w packed once in the order in which it is read.
//
//     packed  [column blocks][words of the inner axis][64 columns]   of 32-bit words
//
// A block of 64 columns is four registers wide.  Up to six rows of x meet it at once, so that every
// word of the weights that is read serves all of them: a single row runs at the speed of memory,
// many at the speed of `dot`.
//
// Several products of the same x are one job (queries, keys and values), and a gated pair is one
// product: act(x @ gate) * (x @ up) leaves the registers finished.
//
// A step's last rows may be padding: `num_rows` says how many count.  The others are not computed,
// and what stands in their place is left as it was.

#include "lanes.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jpaged {
namespace {

constexpr int kWidth = 4;                // registers in a block of columns
constexpr int kColumns = kWidth * kLanes;
constexpr int kRowsTogether = 6;         // 24 sums stay in registers
constexpr int kAhead = 48;               // words of the inner axis fetched before they are needed
constexpr int kRowsPerTask = 96;         // rows that pass over a block while it is in the cache

template <class E, class Out> struct Product {
  const E* x;             // [rows, inner]
  const uint32_t* weights;
  Out* y;                 // [rows, columns]
  int64_t rows, inner, columns;

  int64_t words() const { return inner / E::kPerWord; }
  int64_t blocks() const { return (columns + kColumns - 1) / kColumns; }

  void run(int64_t block, int64_t first, int64_t end) const {
    for (; first + kRowsTogether <= end; first += kRowsTogether) tile<kRowsTogether>(block, first);
    switch (end - first) {
      case 5: return tile<5>(block, first);
      case 4: return tile<4>(block, first);
      case 3: return tile<3>(block, first);
      case 2: return tile<2>(block, first);
      case 1: return one_row(block, first);
    }
  }

 private:
  template <int R> void tile(int64_t block, int64_t first) const {
    Floats sums[R][kWidth] = {};
    const uint32_t* w = weights + block * words() * kColumns;
    const E* rows_of_x = x + first * inner;
    for (int64_t k = 0; k < words(); k++, w += kColumns) {
      for (int c = 0; c < kWidth; c++) __builtin_prefetch(w + kAhead * kColumns + c * kLanes);
      Words columns_of_w[kWidth];
      for (int c = 0; c < kWidth; c++) columns_of_w[c] = load<Words>(w + c * kLanes);
      for (int r = 0; r < R; r++) {
        const Words value = word_at(rows_of_x + r * inner, k);
        for (int c = 0; c < kWidth; c++) sums[r][c] = E::dot(sums[r][c], columns_of_w[c], value);
      }
    }
    for (int r = 0; r < R; r++) put(block, first + r, sums[r]);
  }

  // One row alone would wait for each sum in turn: four sets of sums take turns instead.
  void one_row(int64_t block, int64_t row) const {
    constexpr int kSets = 4;
    Floats sums[kSets][kWidth] = {};
    const uint32_t* w = weights + block * words() * kColumns;
    const E* values = x + row * inner;
    int64_t k = 0;
    for (; k + kSets <= words(); k += kSets, w += kSets * kColumns)
      for (int set = 0; set < kSets; set++) {
        const Words value = word_at(values, k + set);
        for (int c = 0; c < kWidth; c++) {
          const uint32_t* at = w + set * kColumns + c * kLanes;
          __builtin_prefetch(at + 24 * kColumns);
          sums[set][c] = E::dot(sums[set][c], load<Words>(at), value);
        }
      }
    for (; k < words(); k++, w += kColumns)
      for (int c = 0; c < kWidth; c++)
        sums[0][c] = E::dot(sums[0][c], load<Words>(w + c * kLanes), word_at(values, k));
    for (int set = 1; set < kSets; set++)
      for (int c = 0; c < kWidth; c++) sums[0][c] += sums[set][c];
    put(block, row, sums[0]);
  }

  void put(int64_t block, int64_t row, const Floats (&sums)[kWidth]) const {
    Out* to = y + row * columns + block * kColumns;
    const int64_t room = columns - block * kColumns;
    if (room >= kColumns) {
      for (int c = 0; c < kWidth; c++) Out::put(to + c * kLanes, sums[c]);
      return;
    }
    alignas(64) Out whole[kColumns];  // the last block may be narrower than its registers
    for (int c = 0; c < kWidth; c++) Out::put(whole + c * kLanes, sums[c]);
    std::memcpy(to, whole, room * sizeof(Out));
  }
};

// act(x @ gate) * (x @ up): the sums of both are still there when they meet.
template <class E, class Act> struct Gated {
  const E* x;  // [rows, inner]
  const uint32_t *gate, *up;
  E* y;  // [rows, columns]
  int64_t rows, inner, columns;

  int64_t words() const { return inner / E::kPerWord; }
  int64_t blocks() const { return (columns + kColumns - 1) / kColumns; }

  void run(int64_t block, int64_t first, int64_t end) const {
    for (; first < end; first += kRowsTogether)
      switch (std::min<int64_t>(kRowsTogether, end - first)) {
        case 6: tile<6>(block, first); break;
        case 5: tile<5>(block, first); break;
        case 4: tile<4>(block, first); break;
        case 3: tile<3>(block, first); break;
        case 2: tile<2>(block, first); break;
        case 1: tile<1>(block, first); break;
      }
  }

 private:
  template <int R> void tile(int64_t block, int64_t first) const {
    Floats gates[R][kWidth] = {}, ups[R][kWidth] = {};
    multiply_add<R>(gates, gate, block, first);
    multiply_add<R>(ups, up, block, first);
    for (int r = 0; r < R; r++)
      for (int c = 0; c < kWidth; c++)
        put(first + r, block * kColumns + c * kLanes, Act::of(gates[r][c]) * ups[r][c]);
  }

  template <int R>
  void multiply_add(Floats (&out)[R][kWidth], const uint32_t* w, int64_t block,
                    int64_t first) const {
    Floats sums[R][kWidth] = {};
    w += block * words() * kColumns;
    const E* rows_of_x = x + first * inner;
    for (int64_t k = 0; k < words(); k++, w += kColumns) {
      for (int c = 0; c < kWidth; c++) __builtin_prefetch(w + kAhead * kColumns + c * kLanes);
      Words columns_of_w[kWidth];
      for (int c = 0; c < kWidth; c++) columns_of_w[c] = load<Words>(w + c * kLanes);
      for (int r = 0; r < R; r++) {
        const Words value = word_at(rows_of_x + r * inner, k);
        for (int c = 0; c < kWidth; c++) sums[r][c] = E::dot(sums[r][c], columns_of_w[c], value);
      }
    }
    for (int r = 0; r < R; r++)
      for (int c = 0; c < kWidth; c++) out[r][c] = sums[r][c];
  }

  void put(int64_t row, int64_t column, const Floats& values) const {
    E* to = y + row * columns + column;
    if (column + kLanes <= columns) return E::put(to, values);
    if (column >= columns) return;  // the last block may be narrower than its registers
    alignas(64) E whole[kLanes];
    E::put(whole, values);
    std::memcpy(to, whole, (columns - column) * sizeof(E));
  }
};

struct Silu {
  static Floats of(Floats x) { return x / (1.f + exponential(-x)); }
};
struct GeluTanh {  // Hendrycks and Gimpel, 2016
  static Floats of(Floats x) {
    return 0.5f * x * (1.f + hyperbolic_tangent(0.7978845608f * (x + 0.044715f * x * x * x)));
  }
};

// Products of the same x, and what their tasks are.
template <class Product, class Threads> void multiply(Threads& threads, const Product* products,
                                                      int num_products) {
  struct Part {
    Product product;
    int64_t together, groups, first_task;
  };
  constexpr int kMostProducts = 8;
  struct Plan {
    Part parts[kMostProducts];
    int num_parts;
  } plan;
  plan.num_parts = num_products;
  int64_t tasks = 0;
  for (int i = 0; i < num_products; i++) {
    const int64_t blocks = products[i].blocks();
    const int64_t together = std::max<int64_t>(1, std::min<int64_t>(8, blocks / 8));
    const int64_t groups = (blocks + together - 1) / together;
    plan.parts[i] = {products[i], together, groups, tasks};
    tasks += groups * ((products[i].rows + kRowsPerTask - 1) / kRowsPerTask);
  }
  parallel_for(threads, tasks, [plan](int64_t task) {
    int i = plan.num_parts - 1;
    while (task < plan.parts[i].first_task) i--;
    const Part& part = plan.parts[i];
    task -= part.first_task;
    const int64_t first = task / part.groups * kRowsPerTask;
    const int64_t block = task % part.groups * part.together;
    const int64_t end = std::min(part.product.rows, first + kRowsPerTask);
    for (int64_t b = block; b < std::min(part.product.blocks(), block + part.together); b++)
      part.product.run(b, first, end);
  });
}

using xla::ffi::AnyBuffer;
using xla::ffi::DataType;
using xla::ffi::Error;

using Count = xla::ffi::BufferR0<DataType::S32>;

int64_t rows_of(const AnyBuffer& x, const Count& num_rows) {
  return std::clamp<int64_t>(*num_rows.typed_data(), 0, x.dimensions()[0]);
}

// Whether packed weights and a result belong to x.
bool fits(const AnyBuffer& x, const AnyBuffer& weights, const AnyBuffer& y) {
  const auto xd = x.dimensions(), wd = weights.dimensions(), yd = y.dimensions();
  const int64_t per_word = x.element_type() == DataType::BF16 ? Bf16::kPerWord : F32::kPerWord;
  return xd[1] == wd[1] * per_word && wd[2] == kColumns && yd[0] == xd[0] &&
         yd[1] <= wd[0] * kColumns && yd[1] > (wd[0] - 1) * kColumns;
}

Error packed_matmul(xla::ffi::ThreadPool threads, xla::ffi::RemainingArgs args,
                    xla::ffi::RemainingRets rets) {
  constexpr int kMost = 8;
  const int count = int(rets.size());
  if (count < 1 || count > kMost || int(args.size()) != count + 2)
    return Error::InvalidArgument("packed_matmul: one result for each of up to 8 weights");
  const AnyBuffer x = *args.get<AnyBuffer>(0);
  const auto num_rows = args.get<Count>(1);
  if (!num_rows.has_value()) return Error::InvalidArgument("packed_matmul: num_rows is an i32");
  const int64_t rows = rows_of(x, *num_rows);
  const auto xd = x.dimensions();
  const DataType to = (*rets.get<AnyBuffer>(0))->element_type();
  for (int i = 0; i < count; i++) {
    const auto y = *rets.get<AnyBuffer>(i);
    if (!fits(x, *args.get<AnyBuffer>(i + 2), *y) || y->element_type() != to)
      return Error::InvalidArgument("packed_matmul: shapes do not fit");
  }
  auto run = [&](auto in, auto out) {
    using E = decltype(in);
    using Out = decltype(out);
    Product<E, Out> products[kMost];
    for (int i = 0; i < count; i++) {
      const AnyBuffer w = *args.get<AnyBuffer>(i + 2);
      const auto y = *rets.get<AnyBuffer>(i);
      products[i] = {static_cast<const E*>(x.untyped_data()),
                     static_cast<const uint32_t*>(w.untyped_data()),
                     static_cast<Out*>(y->untyped_data()), rows, xd[1], y->dimensions()[1]};
    }
    multiply(threads, products, count);
  };
  if (x.element_type() != DataType::BF16) run(F32{}, F32{});
  else if (to == DataType::BF16) run(Bf16{}, Bf16{});
  else run(Bf16{}, F32{});
  return Error::Success();
}

Error gated_matmul(xla::ffi::ThreadPool threads, AnyBuffer x, Count num_rows, AnyBuffer gate,
                   AnyBuffer up, xla::ffi::Result<AnyBuffer> y, std::string_view activation) {
  if (!fits(x, gate, *y) || !fits(x, up, *y) || y->element_type() != x.element_type())
    return Error::InvalidArgument("gated_matmul: shapes do not fit");
  auto run = [&](auto element, auto act) {
    using E = decltype(element);
    const Gated<E, decltype(act)> product{
        static_cast<const E*>(x.untyped_data()), static_cast<const uint32_t*>(gate.untyped_data()),
        static_cast<const uint32_t*>(up.untyped_data()), static_cast<E*>(y->untyped_data()),
        rows_of(x, num_rows), x.dimensions()[1], y->dimensions()[1]};
    multiply(threads, &product, 1);
    return Error::Success();
  };
  const bool is_bf16 = x.element_type() == DataType::BF16;
  if (activation == "silu") return is_bf16 ? run(Bf16{}, Silu{}) : run(F32{}, Silu{});
  if (activation == "gelu_tanh") return is_bf16 ? run(Bf16{}, GeluTanh{}) : run(F32{}, GeluTanh{});
  return Error::InvalidArgument("gated_matmul: unknown activation");
}

}  // namespace
}  // namespace jpaged

XLA_FFI_DEFINE_HANDLER_SYMBOL(jpaged_packed_matmul, jpaged::packed_matmul,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jpaged_gated_matmul, jpaged::gated_matmul,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<jpaged::Count>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<std::string_view>("activation"));
