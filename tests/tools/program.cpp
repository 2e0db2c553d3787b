#include "program.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "grapnel/viz/codec.h"
#include "grapnel/weights/weights.h"

namespace grapnel::testing {

namespace fs = std::filesystem;

Workshop::Workshop() {
  std::string name = (fs::temp_directory_path() / "grapnel-tools-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  folder_ = name;
}

Workshop::~Workshop() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

Run Workshop::grapnel(const std::string& arguments) const {
  return run("'" GRAPNEL_PROGRAM "'", arguments);
}

Run Workshop::interrupted(const std::string& arguments, double seconds) const {
  return run(
      "timeout --foreground --preserve-status -s INT " + std::to_string(seconds) + " '" GRAPNEL_PROGRAM "'",
      arguments);
}

Run Workshop::with_little_room(const std::string& arguments, int kib) const {
  return run("sh -c 'trap \"\" XFSZ; ulimit -f " + std::to_string(2 * kib) +
                 "; exec \"$0\" \"$@\"' '" GRAPNEL_PROGRAM "'",
             arguments);
}

Run Workshop::run(const std::string& program, const std::string& arguments) const {
  const std::string command = "cd '" + folder_.string() + "' && XDG_CACHE_HOME='" + folder_.string() + "' " +
                              program + " " + arguments + " >stdout.txt 2>stderr.txt";
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  return {WEXITSTATUS(status), text("stdout.txt"), text("stderr.txt")};
}

std::string Workshop::text(const std::string& name) const {
  std::ostringstream content;
  content << std::ifstream(path(name), std::ios::binary).rdbuf();
  return content.str();
}

void Workshop::write_text(const std::string& name, const std::string& content) const {
  std::ofstream(path(name), std::ios::binary) << content;
}

std::size_t Workshop::count(const std::string& name) const {
  std::error_code ignored;
  const fs::directory_iterator files(path(name), ignored);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

std::shared_ptr<nn::Module> Workshop::make_weights(const std::string& model, std::int64_t classes) const {
  default_generator() = Generator(7);
  const auto net = nn::make_model(model, {.num_classes = classes, .width = 4});
  net->eval();
  weights::write_safetensors(path(model + ".safetensors").string(), net->state_dict());
  return net;
}

void Workshop::make_picture(const std::string& name, int height, int width, int seed) const {
  viz::Image image(height, width, 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int channel = 0; channel < 3; ++channel)
        image.row(y)[x * 3 + channel] =
            static_cast<std::uint8_t>((x * (channel + 2) + y * (5 - channel) + 40 * seed + x * y / 16) % 256);
  viz::write_image(path(name), image);
}

void check_fails(const Run& run, const std::string& command, const std::string& part) {
  CAPTURE(run.err);
  CHECK(run.code == 2);
  CHECK(run.out.empty());
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  CHECK(run.err.starts_with("grapnel " + command + ": "));
  CHECK(run.err.find(part) != std::string::npos);
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
  return largest;
}

}  // namespace grapnel::testing
