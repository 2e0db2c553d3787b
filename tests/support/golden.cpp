#include "support/golden.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <span>
#include <sstream>
#include <stdexcept>

#include "grapnel/engine/grad_mode.h"

namespace grapnel::testing {

namespace {

std::vector<std::string> all_lines(const std::string& file) {
  std::ifstream stream(std::filesystem::path(GRAPNEL_TEST_DIR) / "golden" / file);
  if (!stream) throw std::runtime_error("golden " + file + ": cannot be read");
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool is_comment(const std::string& line) {
  return line.starts_with("#");
}

/// Words of a golden file, one line after the other. Numbers may run over lines.
class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file), lines_(all_lines(file)) {}

  std::string word() {
    std::string result;
    while (!(words_ >> result)) {
      if (line_ == lines_.size()) fail("unexpected end");
      const std::string& line = lines_[line_++];
      words_ = std::istringstream(is_comment(line) ? std::string() : line);
    }
    return result;
  }
  std::string rest_of_line() {
    std::string result;
    std::getline(words_ >> std::ws, result);
    return result;
  }
  double number() {
    const std::string text = word();
    std::size_t used = 0;
    double value = 0;
    try {
      value = std::stod(text, &used);  // unlike >>, takes "inf"
    } catch (const std::exception&) {
    }
    if (used != text.size()) fail("expected a number, not '" + text + "'");
    return value;
  }
  Shape sizes(std::size_t rank) {
    Shape shape;
    while (shape.size() < rank) shape.push_back(static_cast<std::int64_t>(number()));
    return shape;
  }
  Shape shape() { return sizes(static_cast<std::size_t>(number())); }
  std::vector<double> numbers(std::int64_t count) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) value = number();
    return values;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("golden " + file_ + ":" + std::to_string(line_) + ": " + what);
  }

 private:
  std::string file_;
  std::vector<std::string> lines_;
  std::size_t line_ = 0;
  std::istringstream words_;
};

GoldenDigest read_digest(Reader& reader) {
  GoldenDigest result;
  result.name = reader.word();
  result.shape = reader.shape();
  result.digest.norm = reader.number();
  for (double& projection : result.digest.projections) projection = reader.number();
  return result;
}

GoldenValues read_values(Reader& reader) {
  const Shape shape = reader.shape();
  return {shape, reader.numbers(numel(shape))};
}

}  // namespace

std::vector<std::string> read_lines(const std::string& file) {
  auto lines = all_lines(file);
  std::erase_if(lines, is_comment);
  return lines;
}

GoldenNetwork read_network(const std::string& net) {
  Reader reader(net + ".txt");
  GoldenNetwork result;
  GoldenMode* mode = nullptr;
  for (std::string key = reader.word(); key != "end"; key = reader.word()) {
    if (key == "input") {
      result.input_name = reader.word();
      result.input_shape = reader.shape();
    } else if (key == "large_input") {
      result.large_input_name = reader.word();
      result.large_input_shape = reader.shape();
    } else if (key == "mode") {
      mode = &result.modes[reader.word()];
    } else if (!mode) {
      reader.fail("'" + key + "' before any mode");
    } else if (key == "loss") {
      mode->loss = reader.number();
    } else if (key == "logits") {
      GoldenValues logits = read_values(reader);
      mode->logits_shape = logits.shape;
      mode->logits = std::move(logits.values);
    } else if (key == "activation") {
      mode->activations.push_back(read_digest(reader));
    } else if (key == "gradient") {
      mode->gradients.push_back(read_digest(reader));
    } else if (key == "statistic") {
      mode->statistics.push_back(read_digest(reader));
    } else {
      reader.fail("unknown key '" + key + "'");
    }
  }
  return result;
}

GoldenTraining read_training(std::int64_t width) {
  Reader reader("training_" + std::to_string(width) + ".txt");
  GoldenTraining result;
  for (std::string key = reader.word(); key != "end"; key = reader.word()) {
    if (key == "loss")
      result.losses.push_back(reader.number());
    else if (key == "state")
      result.state.push_back(read_digest(reader));
    else
      reader.fail("unknown key '" + key + "'");
  }
  return result;
}

std::vector<GoldenOperation> read_operations() {
  Reader reader("ops.txt");
  std::vector<GoldenOperation> result;
  for (std::string key = reader.word(); key != "end"; key = reader.word()) {
    if (key == "case") {
      result.emplace_back();
      result.back().longest_sum = static_cast<std::int64_t>(reader.number());
      result.back().name = reader.rest_of_line();
    } else if (result.empty()) {
      reader.fail("'" + key + "' before any case");
    } else if (key == "input") {
      GoldenInput input;
      input.kind = reader.word();
      input.shape = reader.shape();
      input.scale = reader.number();
      input.shift = reader.number();
      result.back().inputs.push_back(input);
    } else if (key == "output") {
      result.back().outputs.push_back(read_values(reader));
    } else if (key == "gradient") {
      result.back().gradients.push_back(read_values(reader));
    } else {
      reader.fail("unknown key '" + key + "'");
    }
  }
  return result;
}

Tensor GoldenInput::make(const std::string& name, DType type) const {
  if (kind == "index") return integers(name, shape, static_cast<std::uint32_t>(scale));
  if (kind == "steps")
    return integers(name, shape, static_cast<std::uint32_t>(scale), static_cast<std::int64_t>(shift))
        .to(type);
  return reals(name, shape, static_cast<float>(scale), static_cast<float>(shift)).to(type);
}

Digest digest(const Tensor& tensor) {
  NoGrad guard;
  const Tensor here = tensor.to(Device::cpu());
  const Tensor values = (here.dtype() == DType::float32 ? here : here.to(DType::float64)).contiguous();
  Digest result;
  double squares = 0;
  // Signs as +-1 factors, one row of the table for each value of the hash's low byte: no branch in the loop.
  static const auto signs = [] {
    std::array<std::array<double, Digest::kProjections>, 256> table;
    for (std::size_t byte = 0; byte < table.size(); ++byte)
      for (std::size_t k = 0; k < table[byte].size(); ++k) table[byte][k] = (byte >> k & 1) ? 1.0 : -1.0;
    return table;
  }();
  const auto add = [&](const auto* data) {
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      const auto& row = signs[hash(name_hash("signs"), static_cast<std::uint32_t>(i)) & 0xFF];
      const double value = data[i];
      squares += value * value;
      for (std::size_t k = 0; k < row.size(); ++k) result.projections[k] += row[k] * value;
    }
  };
  if (values.dtype() == DType::float32)
    add(values.data<float>());
  else
    add(values.data<double>());
  result.norm = std::sqrt(squares);
  return result;
}

double relative_error(const Tensor& tensor, const GoldenDigest& expected) {
  constexpr double kWorst = std::numeric_limits<double>::infinity();
  if (!(tensor.shape() == expected.shape)) return kWorst;
  const Digest found = digest(tensor);
  if (!std::isfinite(found.norm)) return kWorst;
  double squares = 0;
  for (std::size_t k = 0; k < found.projections.size(); ++k) {
    const double difference = found.projections[k] - expected.digest.projections[k];
    squares += difference * difference;
  }
  const double error =
      std::max(std::sqrt(squares / Digest::kProjections), std::abs(found.norm - expected.digest.norm));
  return error == 0 ? 0 : error / expected.digest.norm;
}

double relative_error(const Tensor& tensor, const std::vector<double>& expected) {
  const auto found = tensor.to_vector<double>();
  if (found.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::sqrt(difference / norm);
}

}  // namespace grapnel::testing
