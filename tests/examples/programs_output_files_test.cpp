// SPDX-License-Identifier: MIT
#include "examples/limited_files.hpp"
#include "examples/temporary_folder.hpp"
#include "programs/output_files.hpp"
#include "programs/row_file.hpp"

#include <gtest/gtest.h>

#include <iterator>
#include <ostream>
#include <stdexcept>
#include <utility>

namespace programs {
namespace {

namespace fs = std::filesystem;

/// A writer of these bytes.
OutputFiles::Write text(std::string bytes) {
  return [bytes = std::move(bytes)](std::ostream& stream) { stream << bytes; };
}

class OutputFilesTest : public TemporaryFolder {
 protected:
  std::size_t files() const {
    return std::size_t(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  std::string content(const char* name) const {
    std::ifstream stream(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
};

TEST_F(OutputFilesTest, AppearOnlyTogether) {
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", text("new"));
  outputs.add(folder_ / "b.npy", text("other"));
  EXPECT_FALSE(fs::exists(folder_ / "a.npy"));
  EXPECT_FALSE(fs::exists(folder_ / "b.npy"));
  outputs.commit();
  EXPECT_EQ(files(), 2u);
  EXPECT_EQ(content("a.npy"), "new");
  EXPECT_EQ(content("b.npy"), "other");
}

TEST_F(OutputFilesTest, LeaveNothingBehindWhenGivenUp) {
  {
    OutputFiles outputs;
    outputs.add(folder_ / "a.npy", text("new"));
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(OutputFilesTest, ReplaceAnOlderFileOnlyWhenWhole) {
  file("older");
  {
    OutputFiles outputs;
    outputs.add(folder_ / "a.npy", text("new"));
  }
  EXPECT_EQ(fs::file_size(folder_ / "a.npy"), 5u);
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", text("new"));
  outputs.commit();
  EXPECT_EQ(content("a.npy"), "new");
}

TEST_F(OutputFilesTest, WriteThroughALink) {
  fs::create_symlink(file("target", "target.npy"), folder_ / "link.npy");
  OutputFiles outputs;
  outputs.add(folder_ / "link.npy", text("new"));
  outputs.commit();
  EXPECT_TRUE(fs::is_symlink(folder_ / "link.npy"));
  EXPECT_EQ(content("target.npy"), "new");
}

TEST_F(OutputFilesTest, RefuseTheSameFileTwice) {
  OutputFiles outputs;
  outputs.add(folder_ / "a.npy", text("new"));
  EXPECT_THROW(outputs.add(folder_ / "." / "a.npy", text("new")), FileError);
}

TEST_F(OutputFilesTest, RefuseAMissingFolderAndWhatIsNoFile) {
  EXPECT_THROW(OutputFiles::check(folder_ / "absent" / "a.npy"), FileError);
  EXPECT_THROW(OutputFiles::check(folder_), FileError);
  EXPECT_THROW(OutputFiles::check("/dev/null"), FileError);
  EXPECT_NO_THROW(OutputFiles::check(folder_ / "a.npy"));
}

/// The message of the FileError that `call` throws.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const FileError& error) {
    return error.what();
  }
  return "done without complaint";
}

TEST_F(OutputFilesTest, LeaveNothingBehindWhereTheyDoNotFit) {
  file("older");
  const LimitedFiles limit(4096);
  for (const std::size_t size : {4097u, 100'000u})  // noticed when the file is closed, and before
    EXPECT_EQ(refusal([&] { write_whole(folder_ / "a.npy", text(std::string(size, 'x'))); }),
              (folder_ / "a.npy").string() + ": it cannot be written: File too large")
        << size;
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(content("a.npy"), "older");
  write_whole(folder_ / "a.npy", text(std::string(4096, 'x')));
  EXPECT_EQ(content("a.npy").size(), 4096u);
}

TEST_F(OutputFilesTest, NoneAppearsWhereOneDoesNotFit) {
  const LimitedFiles limit(4096);
  const auto both = [&] {
    OutputFiles outputs;
    outputs.add(folder_ / "a.npy", text("fits"));
    outputs.add(folder_ / "b.npy", text(std::string(5000, 'x')));
    outputs.commit();
  };
  EXPECT_THROW(both(), FileError);
  EXPECT_EQ(files(), 0u);
}

TEST_F(OutputFilesTest, LeaveNothingBehindWhenTheWriterGivesUp) {
  EXPECT_THROW(write_whole(folder_ / "a.npy",
                           [](std::ostream& stream) {
                             stream << "some";
                             throw std::runtime_error("no more");
                           }),
               std::runtime_error);
  EXPECT_EQ(files(), 0u);
}

using RowFileTest = OutputFilesTest;

TEST_F(RowFileTest, HoldsEachRowAsItComes) {
  file("older and longer\n", "a.csv");
  const RowFile rows(folder_ / "a.csv", "title\n");
  EXPECT_EQ(content("a.csv"), "title\n");
  rows.add("one\n");
  EXPECT_EQ(content("a.csv"), "title\none\n");
  rows.add("two\n");
  EXPECT_EQ(content("a.csv"), "title\none\ntwo\n");
}

TEST_F(RowFileTest, HoldsWholeRowsWhereOneDoesNotFit) {
  const RowFile rows(folder_ / "a.csv", "title\n");
  rows.add("one\n");
  const LimitedFiles limit(12);
  EXPECT_EQ(refusal([&] { rows.add("three\n"); }),
            (folder_ / "a.csv").string() + ": it cannot be written: File too large");
  EXPECT_EQ(content("a.csv"), "title\none\n");
  rows.add("2\n");
  EXPECT_EQ(content("a.csv"), "title\none\n2\n");
}

TEST_F(RowFileTest, LeavesWhatWasThereIfItCannotBegin) {
  file("older", "a.csv");
  const LimitedFiles limit(4);
  EXPECT_THROW(RowFile(folder_ / "a.csv", "title\n"), FileError);
  EXPECT_EQ(content("a.csv"), "older");
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace programs
