#include "checkpoint.h"

#include "grapnel/engine/error.h"
#include "grapnel/weights/weights.h"

namespace grapnel::tools {
namespace {

constexpr const char* kFormat = "grapnel checkpoint 1";

/// `--lr 0.2, before 0.1; --seed ...`; empty if nothing differs.
std::string differences(const Json& now, const Json& before) {
  std::string text;
  for (const auto& [key, value] : now.items()) {
    const Json old = before.value(key, Json());
    if (value != old)
      text += (text.empty() ? "" : "; ") + key + " is " + value.dump() + ", was " + old.dump();
  }
  return text;
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, Trainer& trainer, const Json& settings,
                      const Position& position) {
  const Json place{{"epoch", position.epoch},
                   {"batch", position.batch},
                   {"seen", position.seen},
                   {"correct", position.correct},
                   {"loss_sum", position.loss_sum}};
  weights::write_safetensors(
      path.string(), trainer.state(),
      {{"format", kFormat}, {"settings", settings.dump()}, {"position", place.dump()}});
}

Position read_checkpoint(const std::filesystem::path& path, Trainer& trainer, const Json& settings) {
  const weights::StateFile file = weights::read(path.string());
  const auto entry = [&](const char* key) {
    const auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  if (entry("format") != kFormat)
    throw FileError(path.string() + ": is no checkpoint of `grapnel train`, expected one to resume from");
  try {
    if (const std::string differing = differences(settings, Json::parse(entry("settings")));
        !differing.empty())
      throw FileError(path.string() + ": was written by a run with other settings: " + differing);
    const Json place = Json::parse(entry("position"));
    trainer.load_state(file.tensors);
    return {place.at("epoch"), place.at("batch"), place.at("seen"), place.at("correct"),
            place.at("loss_sum")};
  } catch (const Json::exception&) {
    throw FileError(path.string() + ": a damaged checkpoint: its metadata cannot be read");
  } catch (const NameError& error) {
    throw NameError(path.string() + ": " + error.what());
  }
}

}  // namespace grapnel::tools
