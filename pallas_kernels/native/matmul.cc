// x @ w on the CPU, with w packed once in the order in which it is read.
//
//     packed  [column blocks][words of the inner axis][64 columns]   of 32-bit words
//
// A block of 64 columns is four registers wide.  Up to six rows of x meet it at once, so that every
// word of the weights that is read serves all of them: a single row runs at the speed of memory,
// many at the speed of `dot`.

#include "lanes.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jpaged {
namespace {

constexpr int kWidth = 4;                // registers in a block of columns
constexpr int kColumns = kWidth * kLanes;
constexpr int kRowsTogether = 6;         // 24 sums stay in registers
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
  static uint32_t word(const E* row, int64_t at) {
    uint32_t out;
    std::memcpy(&out, reinterpret_cast<const char*>(row) + 4 * at, 4);
    return out;
  }

  template <int R> void tile(int64_t block, int64_t first) const {
    Floats sums[R][kWidth] = {};
    const uint32_t* w = weights + block * words() * kColumns;
    const E* rows_of_x = x + first * inner;
    for (int64_t k = 0; k < words(); k++, w += kColumns) {
      for (int c = 0; c < kWidth; c++) __builtin_prefetch(w + 16 * kColumns + c * kLanes);
      Words columns_of_w[kWidth];
      for (int c = 0; c < kWidth; c++) columns_of_w[c] = load<Words>(w + c * kLanes);
      for (int r = 0; r < R; r++) {
        const Words value = spread(word(rows_of_x + r * inner, k));
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
        const Words value = spread(word(values, k + set));
        for (int c = 0; c < kWidth; c++) {
          const uint32_t* at = w + set * kColumns + c * kLanes;
          __builtin_prefetch(at + 24 * kColumns);
          sums[set][c] = E::dot(sums[set][c], load<Words>(at), value);
        }
      }
    for (; k < words(); k++, w += kColumns)
      for (int c = 0; c < kWidth; c++)
        sums[0][c] = E::dot(sums[0][c], load<Words>(w + c * kLanes), spread(word(values, k)));
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

template <class E, class Out, class Threads>
void multiply(Threads& threads, Product<E, Out> product) {
  const int64_t blocks = product.blocks();
  const int64_t together = std::max<int64_t>(1, std::min<int64_t>(8, blocks / 8));
  const int64_t groups = (blocks + together - 1) / together;
  const int64_t stripes = (product.rows + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(threads, groups * stripes, [=](int64_t task) {
    const int64_t first = task / groups * kRowsPerTask, block = task % groups * together;
    for (int64_t b = block; b < std::min(blocks, block + together); b++)
      product.run(b, first, std::min(product.rows, first + kRowsPerTask));
  });
}

using xla::ffi::AnyBuffer;
using xla::ffi::DataType;

xla::ffi::Error packed_matmul(xla::ffi::ThreadPool threads, AnyBuffer x, AnyBuffer weights,
                              xla::ffi::Result<AnyBuffer> y) {
  const auto xd = x.dimensions(), wd = weights.dimensions(), yd = y->dimensions();
  const bool is_bf16 = x.element_type() == DataType::BF16;
  const int64_t words = xd[1] / (is_bf16 ? Bf16::kPerWord : F32::kPerWord);
  const bool fits = wd[1] == words && wd[2] == kColumns && yd[0] == xd[0] &&
                    yd[1] <= wd[0] * kColumns && yd[1] > (wd[0] - 1) * kColumns &&
                    xd[1] == words * (is_bf16 ? Bf16::kPerWord : F32::kPerWord);
  if (!fits) return xla::ffi::Error::InvalidArgument("packed_matmul: shapes do not fit");
  auto run = [&](auto in, auto out) {
    using E = decltype(in);
    using Out = decltype(out);
    multiply(threads, Product<E, Out>{static_cast<const E*>(x.untyped_data()),
                               static_cast<const uint32_t*>(weights.untyped_data()),
                               static_cast<Out*>(y->untyped_data()), xd[0], xd[1], yd[1]});
  };
  if (!is_bf16) run(F32{}, F32{});
  else if (y->element_type() == DataType::BF16) run(Bf16{}, Bf16{});
  else run(Bf16{}, F32{});
  return xla::ffi::Error::Success();
}

}  // namespace
}  // namespace jpaged

XLA_FFI_DEFINE_HANDLER_SYMBOL(jpaged_packed_matmul, jpaged::packed_matmul,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>());
