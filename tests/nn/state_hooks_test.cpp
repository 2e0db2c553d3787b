// The hooks around state_dict and load_state_dict: their order and what they see is PyTorch's
// (golden/make_state_hooks.py); a load that fails changes nothing, whatever the hooks did.
#include <algorithm>
#include <sstream>

#include "nn/any_hook.h"
#include "nn/scenario.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::LoadReport;
using nn::Module;
using nn::NamedTensors;
using Names = std::vector<std::string>;

namespace {

std::string join(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

Names names_of(const NamedTensors& state) {
  Names result;
  for (const auto& entry : state) result.push_back(entry.first);
  return result;
}

Names sorted(Names names) {
  std::sort(names.begin(), names.end());
  return names;
}

/// The net of the Python script, and its lines.
struct Trace {
  std::shared_ptr<Chain> net = std::make_shared<Chain>("net", std::make_shared<Scale>("first", 1),
                                                       std::make_shared<Scale>("second", 1));
  Names lines;

  void note(const Names& words) {
    std::string line;
    for (const std::string& word : words)
      if (!word.empty()) line += (line.empty() ? "" : " ") + word;
    lines.push_back(line);
  }

  std::string value() const {
    std::ostringstream out;
    out << net->first->parameters()[0].item();
    return out.str();
  }

  void watch(Labelled& module, const std::string& name = "") {
    const std::string label = module.label;
    module.register_state_dict_pre_hook([=, this](Module&, const std::string& prefix) {
      note({"save_pre" + name, label, prefix});
    });
    module.register_state_dict_post_hook([=, this](Module&, NamedTensors& state, const std::string& prefix) {
      note({"save_post" + name, label, prefix, join(names_of(state))});
    });
    module.register_load_state_dict_pre_hook(
        [=, this](Module&, NamedTensors& state, const std::string& prefix) {
          note({"load_pre" + name, label, prefix, join(sorted(names_of(state)))});
        });
    module.register_load_state_dict_post_hook([=, this](Module&, LoadReport& report) {
      note({"load_post" + name, label, join(report.missing), join(report.unexpected), value()});
    });
  }

  void load(const NamedTensors& state, bool strict = true) {
    try {
      const LoadReport report = net->load_state_dict(state, strict);
      note({"loaded", join(report.missing), join(report.unexpected)});
    } catch (const NameError&) {
      note({"failed"});
    }
  }

  void check(const std::string& scenario) { CHECK(lines == scenario_lines("state_hooks.txt", scenario)); }
};

Tensor number(double value) {
  return Tensor::full({1}, value);
}

}  // namespace

TEST_CASE("[hook-107] state hooks run in PyTorch's order, when saving and when loading") {
  Trace trace;
  for (Labelled* module :
       std::initializer_list<Labelled*>{trace.net.get(), trace.net->first.get(), trace.net->second.get()}) {
    trace.watch(*module, "1");
    trace.watch(*module, "2");
  }
  NamedTensors state = trace.net->state_dict();
  for (auto& [name, tensor] : state) tensor = number(7);
  trace.load(state);
  trace.check("order");
}

TEST_CASE("[hook-107] load post-hooks see the values and what was found wrong so far") {
  Trace trace;
  trace.watch(*trace.net);
  trace.watch(*trace.net->first);
  trace.load({{"first.weight", number(7)}, {"other", number(1)}}, false);
  trace.check("report");
}

TEST_CASE("[hook-107] state_dict post-hooks may edit what was collected") {
  Trace trace;
  trace.net->register_state_dict_post_hook([](Module&, NamedTensors& state, const std::string& prefix) {
    std::erase_if(state, [&](const auto& entry) { return entry.first == prefix + "second.weight"; });
  });
  trace.net->first->register_state_dict_post_hook(
      [](Module&, NamedTensors& state, const std::string& prefix) {
        state.emplace_back(prefix + "extra", number(1));
      });
  trace.note({"names", join(names_of(trace.net->state_dict()))});
  trace.check("edited");
}

TEST_CASE("[hook-107] load pre-hooks may rename what is loaded, and the caller's list stays") {
  Trace trace;
  trace.net->first->register_load_state_dict_pre_hook(
      [](Module&, NamedTensors& state, const std::string& prefix) {
        for (auto& [name, tensor] : state)
          if (name == prefix + "gamma") name = prefix + "weight";
      });
  const NamedTensors state{{"first.gamma", number(7)}, {"second.weight", number(1)}};
  trace.load(state);
  trace.note({"given", join(names_of(state))});
  trace.note({"value", trace.value()});
  trace.check("renamed");
}

TEST_CASE("[hook-107] load post-hooks may edit the strict result until they are removed") {
  Trace trace;
  HookHandle handle = trace.net->register_load_state_dict_post_hook([](Module&, LoadReport& report) {
    report.missing.clear();
    report.unexpected.clear();
  });
  const NamedTensors state{{"first.weight", number(7)}, {"other", number(1)}};
  trace.load(state);
  handle.remove();
  trace.load(state);
  trace.check("forgiven");
}

TEST_CASE("[hook-107] load post-hooks may make a strict load fail, which then changes nothing") {
  Trace trace;
  trace.net->register_load_state_dict_post_hook(
      [](Module&, LoadReport& report) { report.missing.push_back("wanted"); });
  trace.load(trace.net->state_dict());
  trace.load(trace.net->state_dict(), false);
  trace.check("blamed");

  CHECK(message_of<NameError>([&] {
          trace.net->load_state_dict({{"first.weight", number(7)}, {"second.weight", number(8)}});
        }) == "load_state_dict: 1 missing (wanted); nothing was loaded");
  CHECK(trace.net->first->parameters()[0].item() == 1);
  CHECK(trace.net->second->parameters()[0].item() == 1);
}

TEST_CASE("[hook-107] [better-6] a throwing state hook is named, and a load that it ends changes nothing") {
  const auto shared = std::make_shared<Scale>("shared", 1);
  const auto net = std::make_shared<Chain>("net", shared, shared);  // loaded under two names
  const NamedTensors state{{"first.weight", number(7)}, {"second.weight", number(8)}};
  const auto load = [&] { net->load_state_dict(state); };
  const auto save = [&] { net->state_dict(); };
  const auto boom = [](auto&&...) { throw AutogradError("boom"); };

  ScopedHook hook = shared->register_load_state_dict_pre_hook(boom, {.name = "bad"});
  CHECK(message_of<AutogradError>(load) == "load_state_dict pre hook \"bad\" of first (Scale): boom");
  hook = net->register_load_state_dict_post_hook(boom, {.name = "bad"});
  CHECK(message_of<AutogradError>(load) == "load_state_dict post hook \"bad\" of Chain: boom");
  CHECK(shared->weight.item() == 1);
  hook = net->register_load_state_dict_post_hook([](Module& module, LoadReport& report) {
    CHECK(module.parameters()[0].item() == 8);
    module.parameters()[0].detach().fill_(9);
    report.mismatched.push_back("everything");
  });
  CHECK_THROWS_AS(load(), NameError);
  CHECK(shared->weight.item() == 1);
  hook = shared->register_state_dict_pre_hook(boom);
  CHECK(message_of<AutogradError>(save) == "state_dict pre hook of first (Scale): boom");
  hook = shared->register_state_dict_post_hook(boom);
  CHECK(message_of<AutogradError>(save) == "state_dict post hook of first (Scale): boom");
  hook = {};
  load();
  CHECK(shared->weight.item() == 8);
}

TEST_CASE("state hooks are listed, prepended and cleared like all others") {
  Scale net("net", 1);
  int calls = 0;
  const auto count = [&](auto&&...) { ++calls; };
  net.register_state_dict_pre_hook(count, {.name = "a"});
  net.register_state_dict_post_hook(count, {.name = "b"});
  net.register_load_state_dict_pre_hook(count, {.name = "c"});
  net.register_load_state_dict_post_hook(count, {.name = "d"});
  net.register_load_state_dict_post_hook(count, {.prepend = true, .name = "e"});
  CHECK(net.hook_names().state_dict_pre == Names{"a"});
  CHECK(net.hook_names().state_dict == Names{"b"});
  CHECK(net.hook_names().load_state_dict_pre == Names{"c"});
  CHECK(net.hook_names().load_state_dict == Names{"e", "d"});
  net.load_state_dict(net.state_dict());
  CHECK(calls == 5);
  net.clear_hooks();
  net.load_state_dict(net.state_dict());
  CHECK(calls == 5);
}
