// Work on a device that is captured once and from then on started as one (kernels/accelerator.h: Graph).
// Internal to the engine and to nn/plan.cpp.
#pragma once

#include <functional>
#include <memory>

#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/accelerator.h"

namespace grapnel {

class DeviceGraph {
 public:
  /// Runs `work` on the device and then captures it: it is called twice, and must ask for the same both
  /// times. Throws what `work` throws, and DeviceError for work that needs the host or keeps memory it has
  /// taken.
  DeviceGraph(Device device, const std::function<Tensor()>& work);
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  /// Starts the work once more, with what its tensors hold now. Throws DeviceError.
  void replay() const;
  /// What `work` gave; each replay overwrites it.
  const Tensor& result() const { return result_; }

 private:
  struct Free {
    void operator()(kernels::Graph* graph) const noexcept;
  };

  Device device_;
  std::unique_ptr<kernels::Graph, Free> graph_;
  Tensor result_;  // in the graph's memory
};

}  // namespace grapnel
