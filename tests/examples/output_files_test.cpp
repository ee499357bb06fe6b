// SPDX-License-Identifier: MIT
#include "attend/output_files.hpp"

#include "examples/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <sys/resource.h>

namespace attend {
namespace {

namespace fs = std::filesystem;
using Shape = std::vector<std::int64_t>;

class OutputFilesTest : public TemporaryFolder {
 protected:
  std::size_t files() const {
    return std::size_t(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
};

TEST_F(OutputFilesTest, AppearOnlyTogether) {
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::float32, {2}));
  outputs.add(folder_ / "b.npy", npy::zeros(npy::Type::int64, {3}));
  EXPECT_FALSE(fs::exists(folder_ / "a.npy"));
  EXPECT_FALSE(fs::exists(folder_ / "b.npy"));
  outputs.commit();
  EXPECT_EQ(files(), 2u);
  EXPECT_EQ(npy::read(folder_ / "a.npy").shape, (Shape{2}));
  EXPECT_EQ(npy::read(folder_ / "b.npy").type, npy::Type::int64);
}

TEST_F(OutputFilesTest, LeaveNothingBehindWhenGivenUp) {
  {
    OutputFiles outputs;
    outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::float32, {2}));
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(OutputFilesTest, ReplaceAnOlderFileOnlyWhenWhole) {
  file("older");
  {
    OutputFiles outputs;
    outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::float32, {2}));
  }
  EXPECT_EQ(fs::file_size(folder_ / "a.npy"), 5u);
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::float32, {2}));
  outputs.commit();
  EXPECT_EQ(npy::read(folder_ / "a.npy").shape, (Shape{2}));
}

TEST_F(OutputFilesTest, WriteThroughALink) {
  fs::create_symlink(file("target", "target.npy"), folder_ / "link.npy");
  OutputFiles outputs;
  outputs.add(folder_ / "link.npy", npy::zeros(npy::Type::float32, {2}));
  outputs.commit();
  EXPECT_TRUE(fs::is_symlink(folder_ / "link.npy"));
  EXPECT_EQ(npy::read(folder_ / "target.npy").shape, (Shape{2}));
}

TEST_F(OutputFilesTest, RefuseTheSameFileTwice) {
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::float32, {2}));
  EXPECT_THROW(outputs.add(folder_ / "." / "a.npy", npy::zeros(npy::Type::float32, {2})),
               npy::Error);
}

/// No file of this process may grow beyond so many bytes, as if the disk were full then.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

/// Whether the last bytes fail to be written or, fewer than a stream's buffer, to be flushed.
TEST_F(OutputFilesTest, LeaveNothingOnAFullDiskAndSaySo) {
  file("older");
  for (const std::int64_t size : {10, 100000}) {
    OutputFiles outputs;
    outputs.add(folder_ / "small.npy", npy::zeros(npy::Type::uint8, {1}));
    const FullDisk full(128 + 8);
    try {
      outputs.add(folder_ / "a.npy", npy::zeros(npy::Type::uint8, {size}));
      ADD_FAILURE() << "written";
    } catch (const npy::Error& error) {
      EXPECT_TRUE(std::string(error.what())
                      .starts_with((folder_ / "a.npy").string() + ": it cannot be written: "))
          << error.what();
    }
  }
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(fs::file_size(folder_ / "a.npy"), 5u);
}

TEST_F(OutputFilesTest, RefuseAMissingFolderAndWhatIsNoFile) {
  EXPECT_THROW(OutputFiles::check(folder_ / "absent" / "a.npy"), npy::Error);
  EXPECT_THROW(OutputFiles::check(folder_), npy::Error);
  EXPECT_THROW(OutputFiles::check("/dev/null"), npy::Error);
  EXPECT_NO_THROW(OutputFiles::check(folder_ / "a.npy"));
}

}  // namespace
}  // namespace attend
