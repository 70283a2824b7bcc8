// Runs the C++ choice of tokens over random rows under AddressSanitizer and UBSan.  Prints the
// number of rows.

#include <cmath>

#include "choice.cc"
#include "sanitized.h"

using namespace jpaged;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();
enum Kind { kPlain, kTied, kBanned, kAllButOneBanned, kAllBanned, kSomeNaN, kAllNaN, kWild };
constexpr int kLastSound = kAllButOneBanned;  // the others promise no more than some token

static void fill(float* row, int size, int kind) {
  std::normal_distribution<float> normal(0, 3);
  for (int i = 0; i < size; i++) {
    row[i] = normal(random_bits);
    if (kind == kTied) row[i] = std::round(row[i] / 3);
    if (kind == kBanned && between(0, 2)) row[i] = -kInfinity;
    if (kind == kAllButOneBanned || kind == kAllBanned) row[i] = -kInfinity;
    if (kind == kAllNaN || (kind == kSomeNaN && !between(0, 4))) row[i] = kNotANumber;
    if (kind == kWild) row[i] = one_of({row[i], kInfinity, 3e38f, -3e38f, 1e-45f, -0.f, 0.f});
  }
  if (kind == kBanned || kind == kAllButOneBanned) row[between(0, size - 1)] = normal(random_bits);
}

static Choice a_choice(int size) {
  Choice choice;
  choice.u = one_of({0.f, 1 - 1.f / (1 << 24), between(0, (1 << 24) - 1) / float(1 << 24)});
  choice.temperature = one_of({0.f, 1.f, 1e-5f, 1e-2f, 0.7f, 3.f, 1e30f});
  choice.top_k = one_of({0, -1, 1, 2, between(1, size), size, size + 1, 1 << 30});
  choice.top_p = one_of({1.f, 1.f, 1e-9f, 0.5f, 0.999f});
  choice.min_p = one_of({0.f, 0.f, 1e-6f, 0.1f, 1.f});
  return choice;
}

int main() {
  const int steps = 1500;
  int num_rows = 0;
  for (int step = 0; step < steps; step++) {
    const int rows = between(1, 5), size = between(0, 1) ? between(1, 40) : between(1, 700);
    std::vector<float> logits(size_t(rows) * size);
    std::vector<Choice> choices(rows);
    std::vector<int> kinds(rows);
    std::vector<int32_t> tokens(rows, -1);
    for (int r = 0; r < rows; r++) {
      kinds[r] = between(0, kWild);
      fill(&logits[size_t(r) * size], size, kinds[r]);
      choices[r] = a_choice(size);
    }
    OneThread threads;
    choose(threads, logits.data(), rows, size, choices.data(), tokens.data());
    for (int r = 0; r < rows; r++) {
      EXPECT(0 <= tokens[r] && tokens[r] < size);
      const float* row = &logits[size_t(r) * size];
      const float top = *std::max_element(row, row + size);
      if (kinds[r] > kLastSound) continue;
      EXPECT(row[tokens[r]] > -kInfinity);
      const bool is_narrow = choices[r].top_k == 1 || choices[r].top_p < 1e-8f ||
                             choices[r].min_p == 1 || choices[r].temperature == 0;
      if (is_narrow && choices[r].temperature <= 3) EXPECT(row[tokens[r]] == top);
    }
    num_rows += rows;
  }
  std::printf("%d rows\n", num_rows);
}
