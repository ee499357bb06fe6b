// SPDX-License-Identifier: MIT
/// @file
/// Continuous batching: requests join and leave a model's steps as they come and go.
#pragma once

#include "lm/model.hpp"
#include "lm/sampler.hpp"
#include "serve/admission.hpp"
#include "serve/requests.hpp"

#include <ctime>
#include <deque>
#include <string>

namespace serve {

/// What became of a request.
struct Outcome {
  std::string text;  ///< generated
  bool cancelled = false;
  std::int64_t put_back = 0;                   ///< times that a step ran out of pages for it
  std::optional<std::int64_t> admitted, done;  ///< before which step, first; after which one
  double seconds_waited = 0;                   ///< from its arrival until it was admitted first
};

/// How things stood in a step.
struct Moment {
  std::int64_t step = 0;
  double seconds = 0;          ///< since the first step, at the end of this one
  std::int64_t in_flight = 0;  ///< admitted, and not put back by the step
  std::int64_t waiting = 0;    ///< that had arrived, and were not admitted
  std::int64_t generated = 0;  ///< tokens
  std::int64_t pages_held = 0, pages_promised = 0;
};

struct ServerOptions {
  std::int64_t piece = 64;  ///< most tokens of a prompt that a step reads
  double overbook = 1;      ///< see Admission
  double temperature = 0.8;
  std::uint64_t seed = 1;  ///< of what is drawn
};

/// Serves requests in order of arrival. A step takes a token of each request that generates, and a
/// piece of one prompt. A request is admitted where Admission finds room; if a step runs out of
/// pages nevertheless, the request admitted last goes back to the front of the queue, and reads
/// what it had generated again when its turn comes.
class Server {
 public:
  /// Reads the prefix.
  /// @param requests  in order of arrival, each with a token or more to read, and to generate.
  /// @throws lm::ConfigError if the pool is too small for one of the requests alone.
  Server(const lm::Model& model, lm::SharedMemory& memory, lm::Bytes prefix,
         std::vector<Request> requests, const ServerOptions& options);

  /// @return false if all requests are done.
  bool step();

  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  const std::vector<Moment>& moments() const { return moments_; }
  const Admission& admission() const { return admission_; }
  std::int64_t done() const { return done_; }

 private:
  /// A request that has been admitted.
  struct Active {
    std::size_t id;
    lm::TextMemory memory;
    std::vector<std::uint8_t> unread;  ///< prompt, then what was generated and not yet read
  };

  void receive();
  void admit();
  /// Tokens of each active request that the next step reads; none if it has to wait.
  std::vector<std::size_t> rows() const;
  void put_back(std::size_t id);
  /// @return whether the request is done.
  bool take(Active& request,
            const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits);
  std::int64_t length(std::size_t id) const;
  /// Of the processor, so that other programs make no difference. There is one thread.
  double seconds() const { return double(std::clock() - start_) / CLOCKS_PER_SEC; }

  const lm::Model& model_;
  lm::SharedMemory& memory_;
  ServerOptions options_;
  std::vector<Request> requests_;
  Admission admission_;
  lm::TextMemory prefix_;
  std::int64_t prefix_tokens_;

  std::int64_t step_ = 0, done_ = 0;
  std::size_t arrived_ = 0;
  std::deque<std::size_t> waiting_;
  bool crowded_ = false;        ///< one was put back, and none has left since
  std::vector<Active> active_;  ///< in order of admission
  std::vector<lm::Sampler> samplers_;
  std::vector<double> arrival_seconds_;
  std::vector<Outcome> outcomes_;
  std::vector<Moment> moments_;
  std::clock_t start_;
};

}  // namespace serve
