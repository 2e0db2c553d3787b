// Batches of labelled pictures, prepared by worker threads ahead of the training step.
//
// Each batch is made by one worker: read, decode, augment, normalise. What a sample becomes depends on (seed,
// epoch, place in the shuffled order) only, hence the same bits for any number of workers and for an epoch
// entered in its middle.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "dataset.h"
#include "grapnel/engine/tensor.h"
#include "grapnel/viz/augment.h"
#include "grapnel/viz/transforms.h"

namespace grapnel::tools {

struct LoaderOptions {
  int batch = 32;
  /// Shuffled and augmented to (crop, crop); otherwise in the order of the set, prepared as by `preprocess`.
  bool training = false;
  viz::Augment augment;
  double cutmix = 0;  ///< probability that the pictures of a batch exchange rectangles (viz::cut_and_mix)
  viz::Preprocess preprocess;  ///< mean, std and crop hold for training too
  int workers = 1;
  std::uint64_t seed = 0;
  bool skip_bad = false;   ///< leave out pictures that cannot be read, instead of throwing
  bool drop_last = false;  ///< leave out a last batch that is not full
  /// Decoded pictures are kept from their first use until this is full.
  std::size_t keep_bytes = std::size_t{512} << 20;
};

struct Batch {
  int number;                ///< of the batch in its epoch, from 0
  Tensor pictures;           ///< (N,3,crop,crop) float32, channels last
  Tensor labels;             ///< (N) int64
  Tensor other_labels = {};  ///< (N) int64, if each picture holds a part of another's: that one's
  double other_share = 0;    ///< how large that part is, 0..1
};

class Loader {
 public:
  /// `pictures` must outlive the loader. Throws Error for options outside their range.
  Loader(const PictureSet& pictures, const LoaderOptions& options);
  /// Stops and joins the workers; none begins another picture.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Begins an epoch at one of its batches; what was left of another is dropped.
  void start(int epoch, int first_batch = 0);
  /// The next batch in order, waiting for it if need be; nothing at the end of the epoch. A bad picture
  /// arrives here as FileError naming it, in the turn of its batch, which is lost; the next call goes on
  /// behind it. With skip_bad a batch is smaller by its bad pictures, and an empty one is passed over.
  std::optional<Batch> next();

  /// Batches of an epoch.
  int batches() const;
  /// Names of the pictures that skip_bad left out of the batches handed out so far, in all epochs.
  const std::set<std::string>& skipped() const { return skipped_; }

 private:
  struct Prepared {
    Batch batch;
    std::vector<std::string> skipped;
    std::exception_ptr error;
  };

  void stop();
  void work();
  Prepared prepare(int number);
  /// The random numbers of one place of the epoch; behind the samples' come those of the batches.
  Generator generator_at(std::size_t place) const;
  viz::Image sample(std::size_t place);
  std::shared_ptr<const viz::Image> decoded(std::size_t picture);

  const PictureSet& pictures_;
  const LoaderOptions options_;

  // The running epoch; written by start() while no worker runs.
  std::vector<std::uint32_t> order_;  // picture at each place
  std::uint64_t sample_seed_ = 0;

  std::mutex mutex_;
  std::condition_variable room_, ready_;  // for a worker to begin a batch; for next() to hand one out
  std::atomic<bool> stopping_ = false;    // also looked at between pictures
  int unclaimed_ = 0, next_ = 0;          // next batch to begin, to hand out
  std::map<int, Prepared> prepared_;
  std::vector<std::thread> workers_;

  std::mutex kept_mutex_;
  std::vector<std::shared_ptr<const viz::Image>> kept_;  // by picture
  std::size_t kept_bytes_ = 0;

  std::set<std::string> skipped_;
};

}  // namespace grapnel::tools
