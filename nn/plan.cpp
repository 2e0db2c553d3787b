// Read first: engine/device_graph.h.
#include "grapnel/nn/plan.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <utility>
#include <vector>

#include "grapnel/engine/device_graph.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"

namespace grapnel {
namespace {

constexpr int kWarmUps = 2;  // packed weights are kept from the second time on
constexpr std::size_t kMostGraphs = 8;

bool on_cuda(const Tensor& x) {
  return x.defined() && x.device().kind == Device::Kind::cuda;
}

Tensor run(nn::Module& net, const Tensor& x) {
  const Fusion fusion;
  return net(x);
}

std::size_t count_modules(const nn::Module& net) {
  std::size_t count = 1;
  for (const auto& [name, child] : net.named_children()) count += count_modules(*child);
  return count;
}

/// A network as it was once: modules are only ever added to it, parameters and buffers may change. Holds
/// their memory.
class Snapshot {
 public:
  explicit Snapshot(const nn::Module& net) : modules_(count_modules(net)) {
    net.for_each_tensor([this](const Tensor& x) { seen_.emplace_back(x.detach(), x.storage()->version()); });
  }

  bool holds(const nn::Module& net) const {
    std::size_t i = 0;
    bool same = true;
    net.for_each_tensor([&](const Tensor& x) {
      same = same && i < seen_.size() && seen_[i].second == x.storage()->version() &&
             seen_[i].first.storage() == x.storage() &&
             seen_[i].first.storage_offset() == x.storage_offset() && seen_[i].first.shape() == x.shape() &&
             seen_[i].first.strides() == x.strides();
      ++i;
    });
    return same && i == seen_.size() && modules_ == count_modules(net);
  }

 private:
  std::size_t modules_;
  std::vector<std::pair<Tensor, std::uint64_t>> seen_;
};

/// What is ready for inputs that look like one.
struct Ready {
  Ready(const nn::Module& net, const Tensor& x)
      : shape(x.shape()),
        type(x.dtype()),
        format(x.suggested_format()),
        device(x.device()),
        precision(grapnel::precision()),
        state(net) {}

  bool fits(const Tensor& x) const {
    return shape == x.shape() && type == x.dtype() && format == x.suggested_format() && device == x.device();
  }

  Shape shape;
  DType type;
  MemoryFormat format;
  Device device;
  Precision precision;
  Snapshot state;
  int runs = 0;
  Tensor input;  // what the graph reads
  std::unique_ptr<DeviceGraph> graph;
};

}  // namespace

class Plan::Graphs {
 public:
  Tensor answer(nn::Module& net, const Tensor& x) {
    const std::lock_guard lock(mutex_);
    if (refused_) return run(net, x);
    Ready& ready = find(net, x);
    if (!ready.graph && ready.runs < kWarmUps) {
      const Tensor y = run(net, x);
      ++ready.runs;
      return y;
    }
    if (!ready.graph && !capture(net, x, ready)) {
      refused_ = true;
      ready_.clear();
      return run(net, x);
    }
    ready.input.copy_(x);
    ready.graph->replay();
    return ready.graph->result().clone();
  }

 private:
  /// Comes first from now on.
  Ready& find(const nn::Module& net, const Tensor& x) {
    auto at = std::find_if(ready_.begin(), ready_.end(), [&](const Ready& ready) { return ready.fits(x); });
    if (at != ready_.end() && (at->precision != precision() || !at->state.holds(net))) {
      ready_.erase(at);
      at = ready_.end();
    }
    if (at != ready_.end()) {
      ready_.splice(ready_.begin(), ready_, at);
    } else {
      if (ready_.size() == kMostGraphs) ready_.pop_back();
      ready_.emplace_front(net, x);
    }
    return ready_.front();
  }

  /// Whether there is a graph now. A network that is at fault itself throws again when it runs.
  static bool capture(nn::Module& net, const Tensor& x, Ready& ready) {
    try {
      ready.input = x.clone();
      const std::uint64_t version = ready.input.storage()->version();
      ready.graph = std::make_unique<DeviceGraph>(x.device(), [&] { return run(net, ready.input); });
      return ready.input.storage()->version() == version;
    } catch (...) {
      return false;
    }
  }

  std::mutex mutex_;
  std::list<Ready> ready_;  // the one asked for last comes first
  bool refused_ = false;
};

Plan::Plan(std::shared_ptr<nn::Module> net, const Tensor& example)
    : net_(std::move(net)), graphs_(std::make_shared<Graphs>()) {
  if (net_->training())
    throw Error("plan: the network (" + net_->type_name() + ") is in training mode; call eval() first");
  for (int i = 0; i < kWarmUps + (on_cuda(example) ? 1 : 0); ++i) (*this)(example);
}

Tensor Plan::operator()(const Tensor& x) const {
  const InferenceMode inference;
  return on_cuda(x) && !net_->observed() ? graphs_->answer(*net_, x) : run(*net_, x);
}

}  // namespace grapnel
