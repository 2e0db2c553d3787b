// Batches are a function of seed, epoch and number; errors come out where the batch would.
#include "grapnel/loader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "gallery.h"
#include "grapnel/engine/error.h"
#include "grapnel/viz/codec.h"

using namespace grapnel;
using testing::Gallery;
using testing::message_of;
using tools::Batch;
using tools::Loader;
using tools::LoaderOptions;
using tools::PictureSet;

namespace {

LoaderOptions training_options() {
  LoaderOptions options;
  options.batch = 3;
  options.training = true;
  options.augment = {.resized_crop = true,
                     .pad = 1,
                     .flip = 0.5,
                     .brightness = 0.3,
                     .contrast = 0.3,
                     .saturation = 0.3,
                     .hue = 0.1};
  options.preprocess.resize = options.preprocess.crop = 10;
  options.seed = 5;
  return options;
}

LoaderOptions evaluation_options() {
  LoaderOptions options;
  options.batch = 3;
  options.preprocess.resize = 12;
  options.preprocess.crop = 10;
  return options;
}

/// What is left of the epoch.
std::vector<Batch> rest(Loader& loader) {
  std::vector<Batch> batches;
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  return batches;
}

std::vector<Batch> epoch(const PictureSet& set, const LoaderOptions& options, int number = 0, int first = 0) {
  Loader loader(set, options);
  loader.start(number, first);
  return rest(loader);
}

bool same(const Batch& a, const Batch& b) {
  return a.number == b.number && a.pictures.shape() == b.pictures.shape() &&
         a.pictures.to_vector<float>() == b.pictures.to_vector<float>() &&
         a.labels.to_vector<std::int64_t>() == b.labels.to_vector<std::int64_t>();
}

bool same(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Batch& x, const Batch& y) { return same(x, y); });
}

std::vector<std::int64_t> labels_of(const std::vector<Batch>& batches) {
  std::vector<std::int64_t> all;
  for (const Batch& batch : batches)
    for (const std::int64_t label : batch.labels.to_vector<std::int64_t>()) all.push_back(label);
  return all;
}

}  // namespace

TEST_CASE("evaluation batches are the pictures in order, as preprocess makes them") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  const LoaderOptions options = evaluation_options();
  const std::vector<Batch> batches = epoch(set, options);
  REQUIRE(batches.size() == 4);
  CHECK(Loader(set, options).batches() == 4);
  std::size_t picture = 0;
  for (const Batch& batch : batches) {
    CHECK(batch.number == static_cast<int>(picture / 3));
    const std::int64_t count = batch.labels.size(0);
    CHECK(count == (batch.number < 3 ? 3 : 2));
    CHECK(batch.labels.dtype() == DType::int64);
    REQUIRE(batch.pictures.shape() == Shape{count, 3, 10, 10});
    CHECK(batch.pictures.is_contiguous(MemoryFormat::channels_last));
    const std::vector<float> values = batch.pictures.to_vector<float>();
    for (std::int64_t i = 0; i < count; ++i, ++picture) {
      CAPTURE(picture);
      CHECK(batch.labels.to_vector<std::int64_t>()[static_cast<std::size_t>(i)] == set.label(picture));
      const auto expected =
          viz::preprocess(viz::decode_image(set.read(picture)), options.preprocess).to_vector<float>();
      CHECK(std::equal(expected.begin(), expected.end(), values.begin() + i * 300));
    }
  }
}

TEST_CASE("the number of workers, the form of the set and what is kept in memory do not change a bit") {
  const Gallery gallery;
  const PictureSet folder = PictureSet::open(gallery.path("set"));
  const PictureSet tar = PictureSet::open(gallery.tar("set.tar", "set"));
  LoaderOptions options = training_options();
  const std::vector<Batch> expected = epoch(folder, options, 2);
  REQUIRE(expected.size() == 4);
  for (const int workers : {1, 2, 4, 9}) {
    CAPTURE(workers);
    options.workers = workers;
    CHECK(same(epoch(folder, options, 2), expected));
    CHECK(same(epoch(tar, options, 2), expected));
    Loader loader(tar, options);  // decodes in one epoch, remembers in the other
    for (int i = 0; i < 2; ++i) {
      loader.start(2);
      CHECK(same(rest(loader), expected));
    }
  }
  options.keep_bytes = 0;
  CHECK(same(epoch(folder, options, 2), expected));
}

TEST_CASE("an epoch can be entered at any batch, and left at any") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  options.workers = 2;
  const std::vector<Batch> whole = epoch(set, options, 1);
  for (int first = 0; first <= 5; ++first) {
    CAPTURE(first);
    const auto tail = whole.begin() + std::min<std::ptrdiff_t>(first, 4);
    CHECK(same(epoch(set, options, 1, first), std::vector<Batch>(tail, whole.end())));
  }
  Loader loader(set, options);
  for (int taken = 0; taken < 4; ++taken) {
    loader.start(0);
    for (int i = 0; i < taken; ++i) loader.next();
    loader.start(1, 2);
    CHECK(same(*loader.next(), whole[2]));
  }
}

TEST_CASE("an epoch shows every picture once, in an order and a form of its own") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  std::set<std::vector<std::int64_t>> orders;
  std::set<std::vector<float>> forms;
  for (const std::uint64_t seed : {5u, 6u}) {
    options.seed = seed;
    for (int i = 0; i < 5; ++i) {
      const std::vector<Batch> batches = epoch(set, options, i);
      std::vector<std::int64_t> labels = labels_of(batches);
      orders.insert(labels);
      forms.insert(batches[0].pictures.to_vector<float>());
      std::sort(labels.begin(), labels.end());
      CHECK(labels == std::vector<std::int64_t>{0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2});
    }
  }
  CHECK(orders.size() >= 9);  // 6930 orders of the labels: two alike are unlikely, and the seeds are fixed
  CHECK(forms.size() == 10);
}

TEST_CASE("drop_last leaves out what does not fill a batch") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  const std::vector<Batch> all = epoch(set, options);
  options.drop_last = true;
  CHECK(Loader(set, options).batches() == 3);
  CHECK(same(epoch(set, options), {all.begin(), all.begin() + 3}));
}

TEST_CASE("a broken picture arrives as an error that names it, or is left out and counted") {
  const Gallery gallery;
  gallery.write_text("set/cat/2.png", "no picture");
  std::string cut = gallery.text("set/dog/1.png");
  gallery.write_text("set/dog/1.png", cut.substr(0, cut.size() / 2));
  gallery.make_picture("set/old owl/1.png", 1, 16384);  // too long to be enlarged
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = evaluation_options();
  options.preprocess.resize = options.preprocess.crop = 600;
  options.batch = 1;
  const std::set<std::string> bad{set.name(2), set.name(5), set.name(10)};
  for (const int workers : {1, 4}) {
    CAPTURE(workers);
    options.workers = workers;
    options.skip_bad = false;
    Loader strict(set, options);
    strict.start(0);
    std::set<std::string> refused;
    for (int i = 0; i < 11; ++i) {
      const std::string name = set.name(static_cast<std::size_t>(i));
      std::optional<Batch> batch;
      const std::string message = message_of<FileError>([&] { batch = strict.next(); });
      CHECK(batch.has_value() == message.empty());
      if (batch) CHECK(batch->number == i);
      if (!message.empty()) refused.insert(name);
      CHECK((message.empty() || message.starts_with(name + ": ")));
    }
    CHECK(refused == bad);
    CHECK(!strict.next());

    options.skip_bad = true;
    Loader lenient(set, options);
    for (int i = 0; i < 2; ++i) {
      lenient.start(i);
      CHECK(labels_of(rest(lenient)) == std::vector<std::int64_t>{0, 0, 0, 1, 1, 1, 1, 2});
      CHECK(lenient.skipped() == bad);
    }
  }

  options.batch = 4;
  const std::vector<Batch> smaller = epoch(set, options);
  REQUIRE(smaller.size() == 3);
  CHECK(smaller[0].pictures.size(0) == 3);
  CHECK(smaller[1].pictures.size(0) == 3);
  CHECK(smaller[2].pictures.size(0) == 2);
}

TEST_CASE("a skipped picture changes no other") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  options.batch = 11;
  const Batch whole = epoch(set, options).at(0);
  gallery.write_text("set/dog/1.png", "no picture");
  options.skip_bad = true;
  const Batch without = epoch(set, options).at(0);
  const std::vector<float> before = whole.pictures.to_vector<float>(),
                           after = without.pictures.to_vector<float>();
  REQUIRE(without.pictures.size(0) == 10);
  std::size_t at = 0;
  while (at < 10 && std::equal(after.begin() + static_cast<std::ptrdiff_t>(at) * 300,
                               after.begin() + static_cast<std::ptrdiff_t>(at + 1) * 300,
                               before.begin() + static_cast<std::ptrdiff_t>(at) * 300))
    ++at;
  const auto offset = static_cast<std::ptrdiff_t>(at) * 300;
  CHECK(std::equal(after.begin() + offset, after.end(), before.begin() + offset + 300));
}

TEST_CASE("decoded pictures are read once, unless there is no room to keep them") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = evaluation_options();
  Loader keeps(set, options);
  options.keep_bytes = 1000;
  Loader forgets(set, options);
  for (Loader* loader : {&keeps, &forgets}) {
    loader->start(0);
    CHECK(rest(*loader).size() == 4);
  }
  std::filesystem::remove_all(gallery.path("set"));
  keeps.start(1);
  CHECK(rest(keeps).size() == 4);
  forgets.start(1);
  CHECK(message_of<FileError>([&] { rest(forgets); }).ends_with(": there is no such file"));
}

TEST_CASE("a loader may be dropped at any moment") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  options.batch = 1;
  options.workers = 4;
  for (int i = 0; i < 40; ++i) {
    Loader loader(set, options);
    CHECK(!loader.next());  // no epoch has begun
    loader.start(i);
    for (int taken = 0; taken < i % 13; ++taken) loader.next();
    CHECK(loader.next().has_value() == (i % 13 < 11));
  }
}

TEST_CASE("the memory of batches comes back: no epoch needs more than the first") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options();
  options.batch = 1;
  options.workers = 2;
  Loader loader(set, options);
  std::set<const void*> blocks;
  for (int i = 0; i < 20; ++i) {
    loader.start(i);
    while (const auto batch = loader.next()) blocks.insert(batch->pictures.raw_data());
  }
  // One in use, one a worker, and one that waits.
  CHECK(blocks.size() <= 4);
}

TEST_CASE("pictures that exchange rectangles are told apart by their share") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  LoaderOptions options = training_options(), mixing = options;
  options.batch = mixing.batch = 5;
  mixing.cutmix = 1;
  double shares = 0;
  for (int number = 0; number < 20; ++number) {
    const std::vector<Batch> plain = epoch(set, options, number), mixed = epoch(set, mixing, number);
    REQUIRE(plain.size() == mixed.size());
    for (std::size_t b = 0; b < plain.size(); ++b) {
      CHECK(plain[b].other_share == 0);
      CHECK_FALSE(plain[b].other_labels.defined());
      auto labels = plain[b].labels.to_vector<std::int64_t>();
      CHECK(mixed[b].labels.to_vector<std::int64_t>() == labels);
      std::ranges::reverse(labels);
      CHECK(mixed[b].other_labels.to_vector<std::int64_t>() == labels);
      const auto before = plain[b].pictures.to_vector<float>(), after = mixed[b].pictures.to_vector<float>();
      const std::size_t count = labels.size(), size = before.size() / count;
      for (std::size_t i = 0; i < count; ++i) {
        std::size_t own = 0, other = 0;
        for (std::size_t j = 0; j < size; ++j) {
          own += after[i * size + j] == before[i * size + j];
          other += after[i * size + j] == before[(count - 1 - i) * size + j];
        }
        // Where both pictures have the same value, it counts for both.
        CHECK(own + other >= size);
        CHECK(other >= static_cast<std::size_t>(mixed[b].other_share * static_cast<double>(size)));
        CHECK(own >= static_cast<std::size_t>((1 - mixed[b].other_share) * static_cast<double>(size)));
      }
      shares += mixed[b].other_share / static_cast<double>(20 * plain.size());
    }
  }
  // Half of the picture on average, were it not for the parts that would lie outside.
  CHECK(shares > 0.2);
  CHECK(shares < 0.5);

  mixing.cutmix = 0.5;
  int some = 0;
  for (int number = 0; number < 50; ++number)
    for (const Batch& batch : epoch(set, mixing, number)) some += batch.other_labels.defined();
  CHECK(some > 50);
  CHECK(some < 100);  // of 150
}

TEST_CASE("a loader refuses options outside their range") {
  const Gallery gallery;
  const PictureSet set = PictureSet::open(gallery.path("set"));
  const auto refusal = [&](const auto& change) {
    LoaderOptions options = training_options();
    change(options);
    return message_of<Error>([&] { Loader loader(set, options); });
  };
  CHECK(refusal([](LoaderOptions& o) { o.batch = 0; }) == "Loader: got batch 0, expected at least 1");
  CHECK(refusal([](LoaderOptions& o) { o.workers = 0; }) == "Loader: got workers 0, expected at least 1");
  CHECK(refusal([](LoaderOptions& o) { o.preprocess.crop = 0; }) ==
        "Loader: got size 0, expected at least 1");
  CHECK(refusal([](LoaderOptions& o) { o.preprocess.resize = -1; }) ==
        "Loader: got resize -1, expected at least 1");
  CHECK(refusal([](LoaderOptions& o) { o.cutmix = 1.5; }) ==
        "Loader: got cutmix 1.500000, expected a probability");
  CHECK(refusal([](LoaderOptions& o) { o.augment.flip = 2; }) ==
        "augment: the probability of a flip must be in 0..1");
  Loader loader(set, training_options());
  CHECK(message_of<Error>([&] { loader.start(0, -1); }) == "Loader: got first batch -1, expected at least 0");
}
