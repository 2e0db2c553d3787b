#include "cuda_host/capture.h"

#include <utility>

namespace grapnel::cuda_host {
namespace {

thread_local Work* record = nullptr;

}  // namespace

void record_to(Work* work) {
  record = work;
}

bool recording() {
  return record != nullptr;
}

void do_or_record(std::function<void()> step) {
  if (record)
    record->push_back(std::move(step));
  else
    step();
}

Activity& activity() {
  static Activity all;
  return all;
}

}  // namespace grapnel::cuda_host
