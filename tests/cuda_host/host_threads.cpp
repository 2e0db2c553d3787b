#include "cuda_host/host_threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace grapnel::cuda_host {
namespace {

unsigned from_environment() {
  const char* const wish = std::getenv("GRAPNEL_MODEL_THREADS");
  const int count = wish ? std::atoi(wish) : 0;
  return count > 0 ? static_cast<unsigned>(count) : std::max(1u, std::thread::hardware_concurrency());
}

unsigned& count() {
  static unsigned now = from_environment();
  return now;
}

/// Threads that sleep until there is work.
class Pool {
 public:
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run(unsigned others, const std::function<void()>& work) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      free_places_ = others;
      while (threads_.size() < others) threads_.emplace_back([this] { serve(); });
    }
    for (unsigned i = 0; i < others; ++i) wake_.notify_one();
    work();
    std::unique_lock lock(mutex_);
    free_places_ = 0;
    done_.wait(lock, [&] { return working_ == 0; });
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return ends_ || free_places_ > 0; });
      if (ends_) return;
      --free_places_;
      ++working_;
      lock.unlock();
      (*work_)();
      lock.lock();
      --working_;
      done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  const std::function<void()>* work_ = nullptr;
  unsigned free_places_ = 0, working_ = 0;
  bool ends_ = false;
};

}  // namespace

unsigned host_threads() {
  return count();
}

WithHostThreads::WithHostThreads(unsigned wanted) : before_(count()) {
  count() = wanted;
}
WithHostThreads::~WithHostThreads() {
  count() = before_;
}

void run_together(unsigned others, const std::function<void()>& work) {
  if (others == 0) return work();
  static Pool pool;
  pool.run(others, work);
}

}  // namespace grapnel::cuda_host
