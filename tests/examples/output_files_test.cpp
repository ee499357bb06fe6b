// SPDX-License-Identifier: MIT
#include "attend/output_files.hpp"

#include "examples/temporary_folder.hpp"

#include <gtest/gtest.h>

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

TEST_F(OutputFilesTest, RefuseAMissingFolderAndWhatIsNoFile) {
  EXPECT_THROW(OutputFiles::check(folder_ / "absent" / "a.npy"), npy::Error);
  EXPECT_THROW(OutputFiles::check(folder_), npy::Error);
  EXPECT_THROW(OutputFiles::check("/dev/null"), npy::Error);
  EXPECT_NO_THROW(OutputFiles::check(folder_ / "a.npy"));
}

}  // namespace
}  // namespace attend
