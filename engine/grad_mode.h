// Thread-local switches: is the graph recorded, may it ever be, and is it watched for NaN.
#pragma once

namespace grapnel {

/// Whether operations on this thread record a graph. On by default.
bool grad_enabled();

/// Sets grad mode for a scope and restores the former mode at its end.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool previous_;
};

/// `NoGrad guard;` records nothing until the end of the scope.
class NoGrad : public GradMode {
 public:
  NoGrad() : GradMode(false) {}
};

/// Like NoGrad, and what is made inside can never be recorded later (saving it for backward is an error).
class InferenceMode {
 public:
  InferenceMode();
  ~InferenceMode();
  InferenceMode(const InferenceMode&) = delete;
  InferenceMode& operator=(const InferenceMode&) = delete;

  static bool enabled();

 private:
  bool previous_;
  NoGrad no_grad_;
};

/// Looks at every gradient that a backward pass on this thread computes, and throws AutogradError with the
/// name of the operation whose backward made the first NaN. Slow: for finding out where one comes from.
class AnomalyMode {
 public:
  explicit AnomalyMode(bool enabled = true);
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

 private:
  bool previous_;
};

}  // namespace grapnel
