// Runs the C++ kernels over random shapes under AddressSanitizer and UBSan.  Every buffer is a heap
// block of its exact size, so that one element too far is found.  Prints the number of cases.

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

#include "attention.cc"
#include "matmul.cc"

using namespace jpaged;

struct OneThread {
  int64_t num_threads() const { return 1; }
  void Schedule(std::function<void()> work) { work(); }
};

static std::mt19937 random_bits(7);
static int between(int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random_bits);
}

template <class E> std::vector<E> noise(size_t count) {
  std::vector<E> out(count);
  std::normal_distribution<float> normal;
  for (E& x : out) {
    const float value = normal(random_bits);
    std::memcpy(&x, reinterpret_cast<const char*>(&value) + 4 - sizeof(E), sizeof(E));
  }
  out.shrink_to_fit();
  return out;
}

template <class E> bool is_finite(const std::vector<E>& values) {
  for (const E& x : values) {
    uint32_t bits = 0;
    std::memcpy(reinterpret_cast<char*>(&bits) + 4 - sizeof(E), &x, sizeof(E));
    if ((bits & 0x7f800000u) == 0x7f800000u) return false;
  }
  return true;
}

template <class E> void attention_case() {
  const int kv_heads = between(1, 3), group = between(1, 9), page = between(1, 20);
  const int dim = between(1, 128) * E::kPerWord, sequences = between(1, 4), width = between(1, 20);
  const Shape shape{0, kv_heads * group, kv_heads, dim, sequences * width, page, sequences, width};
  std::vector<int32_t> starts{between(0, 2)}, lengths, pages(sequences * width);
  for (size_t i = 0; i < pages.size(); i++) pages[i] = int(i);
  for (int b = 0; b < sequences; b++) {
    lengths.push_back(between(0, page * width));
    starts.push_back(starts.back() + between(0, std::min(lengths[b], 40)));
  }
  Shape with_tokens = shape;
  with_tokens.tokens = starts.back() + between(0, 3);
  const size_t row = size_t(shape.heads) * dim;
  const auto q = noise<E>(with_tokens.tokens * row);
  const auto k = noise<E>(size_t(shape.num_pages) * kv_heads * page * dim), v = noise<E>(k.size());
  const auto sinks = noise<F32>(shape.heads);
  std::vector<E> out = noise<E>(q.size());
  const Inputs<E> in{with_tokens, q.data(), k.data(), v.data(), pages.data(),
                     starts.data(), lengths.data(), out.data()};
  OneThread threads;
  if (problem_of(in)) std::abort();
  attend(threads, in,
         {0.1f, between(0, 1) ? 5.f : 0.f, between(0, 1) ? between(1, 60) : 0,
          between(0, 1) ? reinterpret_cast<const float*>(sinks.data()) : nullptr});
  if (!is_finite(out)) std::abort();
}

template <class E, class Out> void product_case() {
  const int64_t rows = between(1, 120), words = between(1, 70), columns = between(1, 300);
  const auto x = noise<E>(rows * words * E::kPerWord);
  const int64_t blocks = (columns + kColumns - 1) / kColumns;
  const auto w = noise<E>(blocks * kColumns * words * E::kPerWord);
  std::vector<Out> y(rows * columns);
  OneThread threads;
  multiply(threads, Product<E, Out>{x.data(), reinterpret_cast<const uint32_t*>(w.data()),
                                    y.data(), rows, words * E::kPerWord, columns});
  if (!is_finite(y)) std::abort();
}

int main() {
  const int cases = 60;
  for (int i = 0; i < cases; i++) {
    attention_case<Bf16>();
    attention_case<F32>();
    product_case<Bf16, Bf16>();
    product_case<Bf16, F32>();
    product_case<F32, F32>();
  }
  std::printf("%d cases\n", 5 * cases);
}
