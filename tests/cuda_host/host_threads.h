// The threads of this machine on which the model runs blocks side by side.
#pragma once

#include <functional>

namespace grapnel::cuda_host {

/// GRAPNEL_MODEL_THREADS of the environment, or as many as the machine runs at once.
unsigned host_threads();

/// While one exists, there are `count`.
class WithHostThreads {
 public:
  explicit WithHostThreads(unsigned count);
  ~WithHostThreads();
  WithHostThreads(const WithHostThreads&) = delete;
  WithHostThreads& operator=(const WithHostThreads&) = delete;

 private:
  unsigned before_;
};

/// Calls `work` here, and on up to `others` other threads that come while it runs. Returns when all have
/// ended. `work` must not throw. One call at a time.
void run_together(unsigned others, const std::function<void()>& work);

}  // namespace grapnel::cuda_host
