// tools/get_weights.sh against files of this machine: a copy of the script that expects a small file, as no
// test fetches the published ones.
#include <doctest/doctest.h>

#include <array>
#include <cstdio>

#include "grapnel/weights/catalogue.h"
#include "weights/files.h"

namespace grapnel::testing {
namespace {

const std::string kScript = GRAPNEL_TEST_DIR "/../tools/get_weights.sh";
// What the small file holds, and its SHA-256.
const std::string kContent = "grapnel\n";
const std::string kHash = "ea41a416ec404060c5cb74c7a507666dbe44d6ae35599cae2e45a1e89a045c3f";

struct Result {
  int status;
  std::string output;  ///< of both streams
};

Result run(const std::string& command) {
  FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  REQUIRE(pipe);
  Result result{0, {}};
  std::array<char, 4096> buffer{};
  while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe))
    result.output.append(buffer.data(), count);
  const int status = pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

void write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

/// A server's folder with the small file as resnet18's, an empty cache, and a script that fits them.
struct Site {
  TemporaryFolder folder;
  std::string server = folder / "server", cache = folder / "cache", script = folder / "script.sh";
  weights::CatalogueEntry entry = weights::catalogue()[0];
  std::string served = server + "/" + std::string(entry.file), target = cache + "/" + std::string(entry.file);

  Site() {
    std::filesystem::create_directory(server);
    std::filesystem::create_directory(cache);
    write(served, kContent);
    std::string text = read_bytes(kScript);
    replace(text, std::string(entry.sha256), kHash);
    replace(text, std::to_string(entry.bytes), std::to_string(kContent.size()));
    write(script, text);
  }

  static void replace(std::string& text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    REQUIRE(at != text.npos);
    text.replace(at, from.size(), to);
  }

  Result fetch(const std::string& arguments = "resnet18") const {
    return run("GRAPNEL_WEIGHTS_URL='file://" + server + "' bash '" + script + "' " + arguments + " '" +
               cache + "'");
  }
};

}  // namespace

TEST_CASE("the script and the catalogue agree") {
  const std::string script = read_bytes(kScript);
  REQUIRE(weights::catalogue().size() == 3);
  for (const weights::CatalogueEntry& entry : weights::catalogue()) {
    std::ostringstream row;
    row << '\n' << entry.name << ' ' << entry.file << ' ' << entry.sha256 << ' ' << entry.bytes << '\n';
    CAPTURE(row.str());
    CHECK(script.find(row.str()) != std::string::npos);
    CHECK(entry.url.ends_with("/" + std::string(entry.file)));
    CHECK(script.find(entry.url.substr(0, entry.url.size() - entry.file.size() - 1)) != std::string::npos);
    // The published names carry the beginning of the hash.
    CHECK(entry.file == std::string(entry.name) + "-" + std::string(entry.sha256.substr(0, 8)) + ".pth");
  }
}

TEST_CASE("without a name the script helps, and wrong arguments are one line") {
  const Result help = run("bash '" + kScript + "'");
  CHECK(help.status == 0);
  for (const weights::CatalogueEntry& entry : weights::catalogue())
    CHECK(help.output.find(entry.file) != std::string::npos);

  const Result unknown = run("bash '" + kScript + "' resnet50");
  CHECK(unknown.status == 2);
  CHECK(unknown.output ==
        "get_weights.sh: no weights named 'resnet50'; there are resnet18, resnet34 and vgg16\n");
  CHECK(run("bash '" + kScript + "' resnet18 a b").status == 2);
  CHECK(run("bash '" + kScript + "' resnet18 /dev/null/x").output ==
        "get_weights.sh: cannot make the folder '/dev/null/x'\n");
}

TEST_CASE("weights are fetched once, verified") {
  const Site site;
  const Result first = site.fetch();
  CHECK(first.output == site.target + "\n");
  CHECK(first.status == 0);
  CHECK(read_bytes(site.target) == kContent);
  CHECK_FALSE(std::filesystem::exists(site.target + ".part"));

  std::filesystem::remove(site.served);
  CHECK(site.fetch().output == site.target + "\n");

  write(site.target, "something else");
  const Result changed = site.fetch();
  CHECK(changed.status == 2);
  CHECK(changed.output.find("is not the published file") != std::string::npos);
  CHECK(read_bytes(site.target) == "something else");
}

TEST_CASE("an interrupted download goes on where it ended") {
  const Site site;
  write(site.target + ".part", kContent.substr(0, 3));
  // Were it fetched from the beginning, the file would be wrong.
  write(site.served, "XXX" + kContent.substr(3));
  CHECK(site.fetch().output == site.target + "\n");
  CHECK(read_bytes(site.target) == kContent);

  std::filesystem::rename(site.target, site.target + ".part");
  std::filesystem::remove(site.served);
  CHECK(site.fetch().output == site.target + "\n");
}

TEST_CASE("a wrong or missing download leaves no file under the name") {
  const Site site;
  write(site.served, "GRAPNEL\n");
  const Result wrong = site.fetch();
  CHECK(wrong.status == 2);
  CHECK(wrong.output.find("nothing was kept") != std::string::npos);
  CHECK(std::filesystem::is_empty(site.cache));

  std::filesystem::remove(site.served);
  const Result missing = site.fetch();
  CHECK(missing.status == 2);
  CHECK(missing.output.starts_with("get_weights.sh: cannot fetch file://"));
  CHECK(missing.output.find('\n') == missing.output.size() - 1);
  CHECK_FALSE(std::filesystem::exists(site.target));

  write(site.target + ".part", "far too much to be the file");
  write(site.served, kContent);
  CHECK(site.fetch().output == site.target + "\n");
}

}  // namespace grapnel::testing
