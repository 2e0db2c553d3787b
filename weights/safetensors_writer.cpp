// Writing safetensors (safetensors.cpp tells the format). The data of the widest types comes first, so that
// every tensor begins at a multiple of its element size although the format allows no gaps.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <set>
#include <string_view>

#include "grapnel/engine/dtype.h"
#include "grapnel/engine/error.h"
#include "grapnel/weights/mapped_file.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {
namespace {

constexpr std::uint64_t kDataAlignment = 64;

std::string_view type_name(DType type) {
  switch (type) {
    case DType::float64:
      return "F64";
    case DType::float32:
      return "F32";
    case DType::float16:
      return "F16";
    case DType::bfloat16:
      return "BF16";
    case DType::int64:
      return "I64";
    case DType::uint8:
      return "U8";
    case DType::boolean:
      return "BOOL";
  }
  return "?";
}

std::string json_string(const std::string& operation, const std::string& text) {
  if (!is_utf8(text)) throw NameError(operation + "name or metadata " + quoted(text) + " is not UTF-8");
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result = "\"";
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      result += {'\\', 'u', '0', '0', kDigits[c >> 4], kDigits[c & 15]};
    } else {
      if (c == '"' || c == '\\') result += '\\';
      result += c;
    }
  }
  return result + '"';
}

void check(const std::string& operation, const NamedTensors& tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (name == "__metadata__" || !names.insert(name).second)
      throw NameError(operation + "tensor name " + quoted(name) +
                      " is reserved or used twice, expected unique names");
    if (!tensor.defined() || tensor.device().kind != Device::Kind::cpu)
      throw TypeError(operation + "tensor " + quoted(name) +
                      " is unset or not on the CPU, expected values to write");
  }
}

std::uint64_t byte_count(const Tensor& tensor) {
  return static_cast<std::uint64_t>(tensor.numel()) * item_size(tensor.dtype());
}

/// Places of the tensors in the order of their data.
std::vector<std::size_t> data_order(const NamedTensors& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return item_size(tensors[a].second.dtype()) > item_size(tensors[b].second.dtype());
  });
  return order;
}

/// Length and JSON, padded with spaces so that the data is aligned.
std::string make_header(const std::string& operation, const NamedTensors& tensors,
                        const std::vector<std::size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<std::uint64_t> begins(tensors.size());
  std::uint64_t begin = 0;
  for (std::size_t i : order) {
    begins[i] = begin;
    begin += byte_count(tensors[i].second);
  }

  std::string json = "{";
  const auto comma = [](std::string& list, char opening) {
    if (list.back() != opening) list += ',';
  };
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      comma(json, '{');
      json += json_string(operation, key) + ':' + json_string(operation, value);
    }
    json += '}';
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    comma(json, '{');
    json += json_string(operation, name) + ":{\"dtype\":\"";
    json += type_name(tensor.dtype());
    json += "\",\"shape\":[";
    for (std::int64_t size : tensor.shape()) {
      comma(json, '[');
      json += std::to_string(size);
    }
    json += "],\"data_offsets\":[" + std::to_string(begins[i]) + ',' +
            std::to_string(begins[i] + byte_count(tensor)) + "]}";
  }
  json += '}';

  std::uint64_t length = json.size() + sizeof(length);
  length = (length + kDataAlignment - 1) / kDataAlignment * kDataAlignment - sizeof(length);
  json.resize(length, ' ');
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + json;
}

/// A file that appears under its name only once it is complete.
class NewFile {
 public:
  NewFile(std::string operation, std::string path)
      : operation_(std::move(operation)), path_(std::move(path)) {
    static std::atomic<unsigned> counter{0};
    temporary_ = path_ + '.' + std::to_string(getpid()) + '-' + std::to_string(counter++) + ".tmp";
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail();
  }
  /// Takes back what was not finished.
  ~NewFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!temporary_.empty()) unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* data, std::uint64_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail();
      next += written;
      bytes -= static_cast<std::uint64_t>(written);
    }
  }

  void finish() {
    // Without it, a crash of the machine could leave the name with a file still empty.
    if (fsync(descriptor_) != 0) fail();
    if (close(std::exchange(descriptor_, -1)) != 0) fail();
    if (rename(temporary_.c_str(), path_.c_str()) != 0) fail();
    temporary_.clear();
  }

 private:
  [[noreturn]] void fail() {
    const int reason = errno;
    throw FileError(operation_ + "cannot write: " + std::strerror(reason));
  }

  std::string operation_, path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string operation = path + ": ";
  check(operation, tensors);
  const std::vector<std::size_t> order = data_order(tensors);
  const std::string header = make_header(operation, tensors, order, metadata);

  NewFile file(operation, path);
  file.write(header.data(), header.size());
  for (std::size_t i : order) {
    const Tensor dense = tensors[i].second.detach().to(Device::cpu()).contiguous();
    file.write(dense.raw_data(), byte_count(dense));
  }
  file.finish();
}

}  // namespace grapnel::weights
