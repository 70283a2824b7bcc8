// Spreads tasks over XLA's own threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

namespace jpaged {

// Runs work(0) ... work(num_tasks - 1).  The caller works too and waits only for tasks that have
// begun: a helper that never gets a thread (they may all be busy, or waiting like us) finds
// nothing left to do when it comes.  That is why the helpers share ownership of the job.
//
// Threads is xla::ffi::ThreadPool, or another with num_threads() and Schedule(function).
template <class Threads, class Work>
void parallel_for(Threads& threads, int64_t num_tasks, Work work) {
  struct Job {
    Work work;
    int64_t num_tasks;
    std::atomic<int64_t> next{0}, done{0};
    Job(Work work, int64_t num_tasks) : work(work), num_tasks(num_tasks) {}
    void run() {
      for (int64_t task; (task = next.fetch_add(1)) < num_tasks;) {
        work(task);
        done.fetch_add(1, std::memory_order_release);
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(num_tasks, threads.num_threads()) - 1;
  if (helpers < 1) {
    for (int64_t task = 0; task < num_tasks; task++) work(task);
    return;
  }
  auto job = std::make_shared<Job>(work, num_tasks);
  for (int64_t i = 0; i < helpers; i++) threads.Schedule([job] { job->run(); });
  job->run();
  while (job->done.load(std::memory_order_acquire) < num_tasks) std::this_thread::yield();
}

}  // namespace jpaged
