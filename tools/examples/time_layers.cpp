// Global hooks: the time every layer of any network takes, without touching the network.
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "example.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/resnet.h"

using namespace grapnel;

int main() {
  using Clock = std::chrono::steady_clock;
  const auto net = nn::resnet18({.num_classes = 10, .width = 8});
  net->eval();
  Generator generator(1);
  const Tensor picture = Tensor::randn({1, 3, 64, 64}, generator);

  std::map<std::string, double> microseconds;
  {
    std::vector<Clock::time_point> begun;  // modules call modules
    const ScopedHook before = nn::register_global_forward_pre_hook([&](nn::Module&, const Tensors&) {
      begun.push_back(Clock::now());
      return std::nullopt;
    });
    const ScopedHook after =
        nn::register_global_forward_hook([&](nn::Module& module, const Tensors&, const Tensors&) {
          microseconds[module.path()] +=
              std::chrono::duration<double, std::micro>(Clock::now() - begun.back()).count();
          begun.pop_back();
          return std::nullopt;
        });
    const InferenceMode guard;
    (*net)(picture);
  }
  for (const auto& [path, time] : microseconds)
    if (path.find('.') == std::string::npos)
      std::printf("%8.0f us  %s\n", time, path.empty() ? "all" : path.c_str());
  return promise(microseconds.count("layer4.1.conv2") == 1 && microseconds[""] >= microseconds["layer4"],
                 "every layer was timed, parts within the whole");
}
