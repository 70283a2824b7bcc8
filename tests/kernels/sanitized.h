// What the sanitized programs share: one thread, random numbers, and a look for broken ones.
//
// Every buffer is a heap block of its exact size, so that one element too far is found.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

struct OneThread {
  int64_t num_threads() const { return 1; }
  void Schedule(std::function<void()> work) { work(); }
};

static std::mt19937 random_bits(7);
static int between(int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random_bits);
}
template <class T> T one_of(std::initializer_list<T> choices) {
  return choices.begin()[between(0, int(choices.size()) - 1)];
}

#define EXPECT(what)                                                      \
  do {                                                                    \
    if (!(what)) {                                                        \
      std::fprintf(stderr, "%s:%d: not so: " #what "\n", __FILE__, __LINE__); \
      std::abort();                                                       \
    }                                                                     \
  } while (0)
