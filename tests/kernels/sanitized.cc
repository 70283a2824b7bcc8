// Runs the C++ attention and products over random shapes under AddressSanitizer and UBSan.
// Prints the number of cases.

#include "attention.cc"
#include "matmul.cc"
#include "sanitized.h"

using namespace jpaged;

template <class E> E element(float value) {
  E out;
  std::memcpy(&out, reinterpret_cast<const char*>(&value) + 4 - sizeof(E), sizeof(E));
  return out;
}

template <class E> std::vector<E> noise(size_t count, float scale = 1) {
  std::vector<E> out(count);
  std::normal_distribution<float> normal(0, scale);
  for (E& x : out) x = element<E>(normal(random_bits));
  return out;
}

template <class E> std::vector<E> unwritten(size_t count) {
  return std::vector<E>(count, element<E>(std::numeric_limits<float>::quiet_NaN()));
}

template <class E> size_t num_finite(const std::vector<E>& values) {
  size_t count = 0;
  for (const E& x : values) {
    uint32_t bits = 0;
    std::memcpy(reinterpret_cast<char*>(&bits) + 4 - sizeof(E), &x, sizeof(E));
    count += (bits & 0x7f800000u) != 0x7f800000u;
  }
  return count;
}

// Some sequences over a cache that holds NaN wherever nobody has written.  An earlier step writes
// what came before, padding tokens with slots outside the cache among them.
template <class E> struct Case {
  Shape shape;
  std::vector<int32_t> pages, lengths, starts;
  std::vector<E> k_pages, v_pages, out;
  std::vector<float> sinks;
  size_t num_written = 0;

  Case() {
    const int kv_heads = between(1, 3), group = between(0, 5) ? between(1, 9) : between(10, 32);
    const int page = 16 * between(1, 3), dim = 16 * between(1, 16), sequences = between(1, 4);
    // up to three chunks of 256 keys
    const int width = between(1, between(0, 3) ? 6 : 700 / page), spare = between(0, 2);
    shape = {0, kv_heads * group, kv_heads, dim, sequences * width + spare, page, sequences, width};
    for (int i = 0; i < shape.num_pages; i++) pages.push_back(i);
    std::shuffle(pages.begin(), pages.end(), random_bits);
    pages.resize(sequences * width);
    pages.shrink_to_fit();
    for (int b = 0; b < sequences; b++) lengths.push_back(between(0, page * width));
    k_pages = unwritten<E>(size_t(shape.slots()) * kv_heads * dim);
    v_pages = k_pages;
    for (const F32& x : noise<F32>(shape.heads)) sinks.push_back(x.value);
    lengths.shrink_to_fit();
    sinks.shrink_to_fit();
  }

  int slot(int sequence, int position) const {
    const int page = pages[sequence * shape.table_width + position / shape.page_size];
    return page * shape.page_size + position % shape.page_size;
  }

  // A slot outside the cache, of any kind.
  int nowhere() const {
    const int past = int(shape.slots());
    return one_of({past, past + 1, past + between(0, 1000000), -1, -past, -between(1, 1000000),
                   std::numeric_limits<int>::max(), std::numeric_limits<int>::min()});
  }

  // The positions [first[b], end[b]) of each sequence, with padding before and behind.
  void step(const std::vector<int32_t>& first, const std::vector<int32_t>& end, bool attends) {
    std::vector<int32_t> slots;
    starts.clear();
    for (int i = between(0, 2); i; i--) slots.push_back(nowhere());
    for (int b = 0; b < shape.sequences; b++) {
      starts.push_back(int(slots.size()));
      for (int i = first[b]; i < end[b]; i++) slots.push_back(slot(b, i));
      num_written += end[b] - first[b];
    }
    starts.push_back(int(slots.size()));
    for (int i = between(0, 3); i; i--) slots.push_back(nowhere());
    slots.shrink_to_fit();
    starts.shrink_to_fit();
    Shape with_tokens = shape;
    with_tokens.tokens = int(slots.size());
    const size_t row = size_t(shape.dim) * slots.size();
    const auto q = noise<E>(row * shape.heads);
    const auto k = noise<E>(row * shape.kv_heads), v = noise<E>(row * shape.kv_heads);
    out = unwritten<E>(q.size());
    const Inputs<E> in{with_tokens,    q.data(),       k.data(),     v.data(),
                       k_pages.data(), v_pages.data(), pages.data(), slots.data(),
                       starts.data(),  end.data(),     out.data()};
    OneThread threads;
    EXPECT(!problem_of(in));
    write(threads, in);
    const size_t elements = num_written * shape.kv_heads * shape.dim;
    EXPECT(num_finite(k_pages) == elements && num_finite(v_pages) == elements);
    if (!attends) return;
    attend(threads, in,
           {0.1f, between(0, 1) ? 5.f : 0.f, one_of({0, between(1, 60), between(1, 300)}),
            between(0, 1) ? sinks.data() : nullptr});
    EXPECT(num_finite(out) == out.size());
    EXPECT(num_finite(k_pages) == elements && num_finite(v_pages) == elements);
  }
};

template <class E> void attention_case() {
  Case<E> one;
  std::vector<int32_t> before;
  for (int length : one.lengths) before.push_back(length - between(0, std::min(length, 40)));
  before.shrink_to_fit();
  one.step(std::vector<int32_t>(before.size()), before, false);
  one.step(before, one.lengths, true);
}

// A table of any numbers is refused or served, and nothing outside the arrays is touched.
template <class E> void hostile_case() {
  Case<E> one;
  const int longest = one.shape.page_size * one.shape.table_width;
  auto spoil = [longest](std::vector<int32_t>& numbers) {
    const int most = std::numeric_limits<int>::max(), least = std::numeric_limits<int>::min();
    numbers[between(0, int(numbers.size()) - 1)] =
        one_of({most, least, between(-3, 40), between(least, most), -1, 0, 1,
                longest + between(0, 20)});
  };
  one.starts.push_back(between(0, 2));
  for (int length : one.lengths)
    one.starts.push_back(one.starts.back() + between(0, std::min(length, 10)));
  one.starts.shrink_to_fit();
  one.shape.tokens = std::max(1, one.starts.back() + between(0, 3));
  std::vector<int32_t> slots;
  for (int i = 0; i < one.shape.tokens; i++)
    slots.push_back(between(0, 1) ? one.nowhere() : between(0, int(one.shape.slots()) - 1));
  slots.shrink_to_fit();
  // mostly one alone, or one fault would hide the next
  auto& spoiled = *one_of({&one.starts, &one.lengths, &one.pages, &slots});
  for (int i = between(1, 2); i; i--) spoil(spoiled);
  if (!between(0, 4)) spoil(one.starts);
  const size_t row = size_t(one.shape.dim) * one.shape.tokens;
  const auto q = noise<E>(row * one.shape.heads);
  const auto k = noise<E>(row * one.shape.kv_heads), v = noise<E>(row * one.shape.kv_heads);
  one.out = unwritten<E>(q.size());
  const Inputs<E> in{one.shape,          q.data(),           k.data(),         v.data(),
                     one.k_pages.data(), one.v_pages.data(), one.pages.data(), slots.data(),
                     one.starts.data(),  one.lengths.data(), one.out.data()};
  OneThread threads;
  if (problem_of(in)) return;
  write(threads, in);
  attend(threads, in, {0.1f, 0, between(0, 60), nullptr});
}

template <class E> std::vector<E> some_weights(int64_t columns, int64_t words) {
  const int64_t blocks = (columns + kColumns - 1) / kColumns;
  return noise<E>(blocks * kColumns * words * E::kPerWord);
}

template <class E, class Out> void product_case() {
  const int64_t rows = between(1, 120), words = between(1, 70);
  const auto x = noise<E>(rows * words * E::kPerWord);
  const int count = between(1, 3);
  std::vector<std::vector<E>> weights;
  std::vector<std::vector<Out>> results;
  std::vector<Product<E, Out>> products;
  for (int i = 0; i < count; i++) {
    const int64_t columns = between(1, 300);
    weights.push_back(some_weights<E>(columns, words));
    results.push_back(unwritten<Out>(rows * columns));
    products.push_back({x.data(), reinterpret_cast<const uint32_t*>(weights[i].data()),
                        results[i].data(), rows, words * E::kPerWord, columns});
  }
  OneThread threads;
  multiply(threads, products.data(), count);
  for (const auto& y : results) EXPECT(num_finite(y) == y.size());
}

template <class E, class Act> void gated_case() {
  const int64_t rows = between(0, 1) ? between(1, 7) : between(1, 120);
  const int64_t words = between(1, 70), columns = between(1, 300);
  const auto x = noise<E>(rows * words * E::kPerWord, 0.05f);
  const auto gate = some_weights<E>(columns, words), up = some_weights<E>(columns, words);
  auto y = unwritten<E>(rows * columns);
  const Gated<E, Act> product{x.data(), reinterpret_cast<const uint32_t*>(gate.data()),
                              reinterpret_cast<const uint32_t*>(up.data()), y.data(), rows,
                              words * E::kPerWord, columns};
  OneThread threads;
  multiply(threads, &product, 1);
  EXPECT(num_finite(y) == y.size());
}

int main() {
  const int cases = 100;
  for (int i = 0; i < cases; i++) {
    attention_case<Bf16>();
    attention_case<F32>();
    product_case<Bf16, Bf16>();
    product_case<Bf16, F32>();
    product_case<F32, F32>();
    gated_case<Bf16, Silu>();
    gated_case<F32, GeluTanh>();
  }
  for (int i = 0; i < 4 * cases; i++) {
    hostile_case<Bf16>();
    hostile_case<F32>();
  }
  std::printf("%d cases\n", 15 * cases);
}
