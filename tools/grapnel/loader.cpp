// One mutex guards which batches are begun, prepared and handed out; the work itself happens outside of it.
#include "loader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/engine/random.h"
#include "grapnel/viz/codec.h"

namespace grapnel::tools {
namespace {

/// A seed for one use, taken from the stream of another seed.
std::uint64_t derived_seed(std::uint64_t seed, std::uint64_t index) {
  return std::uint64_t{Generator::bits_at(seed, 2 * index)} << 32 | Generator::bits_at(seed, 2 * index + 1);
}

/// Fisher and Yates.
void shuffle(std::vector<std::uint32_t>& order, std::uint64_t seed) {
  Generator generator(seed);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[std::uint64_t{generator.bits()} * i >> 32]);
}

void require_at_least(const char* what, int value, int least) {
  if (value < least)
    throw Error("Loader: got " + std::string(what) + " " + std::to_string(value) + ", expected at least " +
                std::to_string(least));
}

}  // namespace

Loader::Loader(const PictureSet& pictures, const LoaderOptions& options)
    : pictures_(pictures), options_(options), order_(pictures.size()), kept_(pictures.size()) {
  require_at_least("batch", options.batch, 1);
  require_at_least("workers", options.workers, 1);
  require_at_least("size", options.preprocess.crop, 1);
  require_at_least("resize", options.preprocess.resize, 1);
  if (options.training) viz::check_augment(options.augment, options.preprocess.crop);
  if (!(options.cutmix >= 0 && options.cutmix <= 1))
    throw Error("Loader: got cutmix " + std::to_string(options.cutmix) + ", expected a probability");
}

Loader::~Loader() {
  stop();
}

int Loader::batches() const {
  const std::size_t batch = static_cast<std::size_t>(options_.batch);
  return static_cast<int>((pictures_.size() + (options_.drop_last ? 0 : batch - 1)) / batch);
}

void Loader::start(int epoch, int first_batch) {
  require_at_least("epoch", epoch, 0);
  require_at_least("first batch", first_batch, 0);
  stop();
  std::iota(order_.begin(), order_.end(), 0u);
  const std::uint64_t use = 2 * static_cast<std::uint64_t>(epoch);
  if (options_.training) shuffle(order_, derived_seed(options_.seed, use));
  sample_seed_ = derived_seed(options_.seed, use + 1);
  prepared_.clear();
  unclaimed_ = next_ = first_batch;
  stopping_ = false;
  for (int i = 0; i < options_.workers; ++i) workers_.emplace_back([this] { work(); });
}

void Loader::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  room_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

std::optional<Batch> Loader::next() {
  std::unique_lock lock(mutex_);
  while (next_ < batches() && !workers_.empty()) {
    ready_.wait(lock, [this] { return prepared_.contains(next_); });
    Prepared prepared = std::move(prepared_.extract(next_++).mapped());
    room_.notify_one();
    if (prepared.error) std::rethrow_exception(prepared.error);
    skipped_.insert(prepared.skipped.begin(), prepared.skipped.end());
    if (prepared.batch.labels.defined()) return std::move(prepared.batch);
  }
  return {};
}

void Loader::work() {
  // Each worker has a batch in hand, and one more waits for next().
  const int ahead = options_.workers + 1;
  std::unique_lock lock(mutex_);
  for (;;) {
    room_.wait(lock, [&] { return stopping_ || unclaimed_ >= batches() || unclaimed_ < next_ + ahead; });
    if (stopping_ || unclaimed_ >= batches()) return;
    const int number = unclaimed_++;
    lock.unlock();
    Prepared prepared = prepare(number);
    lock.lock();
    prepared_.emplace(number, std::move(prepared));
    ready_.notify_one();
  }
}

Loader::Prepared Loader::prepare(int number) {
  Prepared prepared{{number, {}, {}}, {}, {}};
  try {
    std::vector<viz::Image> images;
    std::vector<std::int64_t> labels;
    const std::size_t batch = static_cast<std::size_t>(options_.batch);
    const std::size_t begin = static_cast<std::size_t>(number) * batch;
    for (std::size_t place = begin; place < std::min(begin + batch, order_.size()) && !stopping_; ++place) {
      const std::size_t picture = order_[place];
      try {
        images.push_back(sample(place));
        labels.push_back(pictures_.label(picture));
      } catch (const FileError&) {
        if (!options_.skip_bad) throw;
        prepared.skipped.push_back(pictures_.name(picture));
      }
    }
    if (images.empty()) return prepared;
    const auto tensor_of = [](const std::vector<std::int64_t>& values) {
      return Tensor::from(std::span<const std::int64_t>(values), {static_cast<std::int64_t>(values.size())});
    };
    prepared.batch.labels = tensor_of(labels);
    Generator generator = generator_at(order_.size() + static_cast<std::size_t>(number));
    if (options_.cutmix > 0 && generator.uniform() < options_.cutmix) {
      prepared.batch.other_share = viz::cut_and_mix(images, generator);
      std::ranges::reverse(labels);
      prepared.batch.other_labels = tensor_of(labels);
    }
    prepared.batch.pictures = viz::normalize(images, options_.preprocess);
  } catch (...) {
    prepared.error = std::current_exception();
  }
  return prepared;
}

Generator Loader::generator_at(std::size_t place) const {
  constexpr std::uint64_t kDraws = std::uint64_t{1} << 32;  // more numbers than a sample draws
  Generator generator(sample_seed_);
  generator.set_offset(place * kDraws);
  return generator;
}

viz::Image Loader::sample(std::size_t place) {
  const std::size_t picture = order_[place];
  const std::shared_ptr<const viz::Image> image = decoded(picture);
  Generator generator = generator_at(place);
  try {
    if (!options_.training) return viz::preprocess_image(*image, options_.preprocess);
    return viz::augment(*image, options_.preprocess.crop, options_.augment, generator);
  } catch (const ShapeError& error) {  // too long and thin to be resized
    throw FileError(pictures_.name(picture) + ": " + error.what());
  }
}

std::shared_ptr<const viz::Image> Loader::decoded(std::size_t picture) {
  {
    std::lock_guard lock(kept_mutex_);
    if (kept_[picture]) return kept_[picture];
  }
  auto image =
      std::make_shared<const viz::Image>(viz::decode_image(pictures_.read(picture), pictures_.name(picture)));
  std::lock_guard lock(kept_mutex_);
  if (kept_bytes_ + image->pixels().size() <= options_.keep_bytes) {
    kept_bytes_ += image->pixels().size();
    kept_[picture] = image;
  }
  return image;
}

}  // namespace grapnel::tools
