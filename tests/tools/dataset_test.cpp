// A folder of class folders and its tars are one and the same set; everything else is refused in words.
#include "grapnel/dataset.h"

#include <doctest/doctest.h>

#include <fstream>

#include "gallery.h"
#include "grapnel/engine/error.h"

using namespace grapnel;
using testing::Gallery;
using tools::PictureSet;

namespace {

namespace fs = std::filesystem;

std::string refusal(const fs::path& path) {
  return testing::message_of<FileError>([&] { PictureSet::open(path); });
}

/// What two sets must have in common: everything but where they are.
void check_same(const PictureSet& a, const PictureSet& b) {
  CHECK(a.class_names() == b.class_names());
  CHECK(a.ignored() == b.ignored());
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(fs::path(a.name(i)).filename() == fs::path(b.name(i)).filename());
    CHECK(a.label(i) == b.label(i));
    CHECK(a.read(i) == b.read(i));
  }
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a set lists classes and files by name") {
  const Gallery gallery;
  gallery.add("set/cat/10.PNG.jpeg", 8, 8, 50);
  gallery.add("set/cat/.hidden.png", 8, 8, 51);
  gallery.add("set/cat/nested/0.png", 8, 8, 52);
  gallery.add("set/.cache/0.png", 8, 8, 53);
  gallery.add_text("set/cat/notes.txt", "not a picture");
  gallery.add_text("set/README.md", "not in a class");
  const PictureSet set = PictureSet::open(gallery.path("set"));
  CHECK(set.class_names() == std::vector<std::string>{"cat", "dog", "old owl"});
  CHECK(set.size() == 12);
  CHECK(set.ignored() == 2);
  CHECK(set.name(0) == gallery.path("set/cat/0.png").string());
  CHECK(set.name(2) == gallery.path("set/cat/10.PNG.jpeg").string());
  CHECK(set.label(4) == 0);
  CHECK(set.label(5) == 1);
  CHECK(set.label(11) == 2);
  const std::vector<std::uint8_t> bytes = set.read(11);
  CHECK(std::string(bytes.begin(), bytes.end()) == gallery.text("set/old owl/1.png"));

  check_same(PictureSet::open(gallery.tar("all.tar", "set")), set);
}

TEST_CASE("tars of every format hold the same set as the folder") {
  const Gallery gallery;
  const auto check_format = [&](const std::string& format) {
    CAPTURE(format);
    const PictureSet folder = PictureSet::open(gallery.path("set"));
    const std::string option = "--format=" + format;
    for (const char* what : {"set", "./set", "-C set ."})
      check_same(PictureSet::open(gallery.tar("set.tar", option + " " + what)), folder);
  };
  check_same(PictureSet::open(gallery.tar("set.tar", "-C set dog 'old owl' cat")),
             PictureSet::open(gallery.path("set")));  // in another order
  gallery.add("set/cat/" + std::string(85, 'm') + ".png", 9, 9, 61);
  check_format("v7");
  // A name beyond 100 bytes is cut at a folder by ustar; one beyond its fields needs the later formats.
  const std::string folder = "set/dog" + std::string(70, 'g');
  gallery.add(folder + "/" + std::string(90, 'n') + ".png", 9, 9, 62);
  check_format("ustar");
  gallery.add("set/cat/" + std::string(180, 'o') + ".png", 9, 9, 63);
  check_format("gnu");
  check_format("pax");
}

TEST_CASE("in a tar the later of two files of one name counts") {
  const Gallery gallery;
  const fs::path path = gallery.tar("set.tar", "set");
  gallery.add("set/dog/3.png", 30, 30, 70);
  REQUIRE(std::system(("tar -C '" + gallery.path("").string() + "' -rf '" + path.string() + "' set/dog/3.png")
                          .c_str()) == 0);
  check_same(PictureSet::open(path), PictureSet::open(gallery.path("set")));
}

TEST_CASE("links and folders around the set do not matter in a tar") {
  const Gallery gallery;
  gallery.make_folder("outer");
  fs::rename(gallery.path("set"), gallery.path("outer/set"));
  const PictureSet folder = PictureSet::open(gallery.path("outer/set"));
  fs::create_symlink("0.png", gallery.path("outer/set/cat/link.png"));
  check_same(PictureSet::open(gallery.tar("deep.tar", "outer")), folder);
}

TEST_CASE("what is no set of labelled pictures is refused") {
  const Gallery gallery;
  const auto at = [&](const char* name) { return gallery.path(name).string(); };
  CHECK(refusal(at("absent")) == at("absent") + ": there is no such folder or file");

  CHECK(refusal("/dev/null") == "/dev/null: is neither a folder nor a file");

  gallery.make_folder("empty");
  CHECK(refusal(at("empty")) == at("empty") + ": has no class folders; expected CLASS/PICTURE inside");
  CHECK(refusal(gallery.tar("empty.tar", "-T /dev/null")) ==
        at("empty.tar") + ": has no class folders; expected CLASS/PICTURE inside");
  CHECK(refusal(at("set/cat")) == at("set/cat") + ": has no class folders; expected CLASS/PICTURE inside");

  gallery.add("one/cat/0.png", 8, 8, 0);
  const std::string only = ": has only one class folder, \"cat\"; expected at least two";
  CHECK(refusal(at("one")) == at("one") + only);
  CHECK(refusal(gallery.tar("one.tar", "one")) == at("one.tar") + only);

  gallery.add_text("set/bird/notes.txt", "no bird yet");
  const std::string none =
      "/bird: the class folder holds no picture (.png, .jpg or .jpeg); fill or remove it";
  CHECK(refusal(at("set")) == at("set") + none);
  CHECK(refusal(gallery.tar("bird.tar", "set")) == at("bird.tar") + none);

  gallery.write_text("notes.txt", std::string(2000, 'a'));
  const std::string neither = ": is neither a folder of class folders nor a tar of them";
  CHECK(refusal(at("notes.txt")) == at("notes.txt") + neither);
  gallery.write_text("short.tar", "");
  CHECK(refusal(at("short.tar")) == at("short.tar") + neither);

  CHECK(refusal(gallery.tar("set.tar.gz", "-z set")) ==
        at("set.tar.gz") + ": is compressed; decompress it first: gunzip " + at("set.tar.gz"));
  gallery.write_text("set.zip", "PK\x03\x04 and so on");
  CHECK(refusal(at("set.zip")) == at("set.zip") + ": is a zip file; unpack it first: unzip " + at("set.zip"));
}

TEST_CASE("a tar cut short anywhere, or damaged, is refused") {
  const Gallery gallery;
  const std::string whole = bytes_of(gallery.tar("set.tar", "set"));
  const std::string path = gallery.path("cut.tar").string();
  const std::size_t end = whole.find_last_not_of('\0');
  for (std::size_t size = 512; size < end; size += 256) {
    CAPTURE(size);
    gallery.write_text("cut.tar", whole.substr(0, size));
    CHECK(refusal(path) == path + ": the tar ends early; was it copied completely?");
  }

  // The second header is that of a class folder: its name, its size, its type.
  for (const std::size_t byte : {512 + 5, 512 + 130, 512 + 156}) {
    std::string damaged = whole;
    damaged[byte] ^= 4;
    gallery.write_text("cut.tar", damaged);
    CHECK(refusal(path) == path + ": the tar is damaged at byte 512");
  }
}

TEST_CASE("a file that vanishes is reported when it is read") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  fs::remove(gallery.path("set/cat/2.png"));
  CHECK(set.read(1).size() > 0);
  CHECK(testing::message_of<FileError>([&] { set.read(2); }) == set.name(2) + ": there is no such file");

  const fs::path path = gallery.tar("set.tar", "set");
  const PictureSet tar = PictureSet::open(path);
  fs::resize_file(path, 1024);
  CHECK(testing::message_of<FileError>([&] { tar.read(tar.size() - 1); }) ==
        path.string() + ": became shorter while it was read");
}
