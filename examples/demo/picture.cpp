// SPDX-License-Identifier: MIT
#include "demo/picture.hpp"

#include "programs/output_files.hpp"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <span>
#include <stb/stb_easy_font.h>
#include <stb/stb_image_write.h>

namespace demo {
namespace {

struct Colour {
  double r, g, b;
};

constexpr Colour ink{34, 38, 46}, faint{120, 126, 138}, hidden{238, 239, 242};

/// From nothing to most, light to dark.
using Ramp = std::array<Colour, 5>;
constexpr Ramp blues{
    {{250, 251, 254}, {190, 212, 240}, {106, 156, 218}, {36, 92, 172}, {8, 34, 92}}};
constexpr Ramp oranges{
    {{254, 252, 249}, {253, 214, 168}, {245, 150, 72}, {200, 78, 20}, {104, 26, 8}}};

Colour of(const Ramp& ramp, double x) {
  const double at = std::clamp(x, 0., 1.) * double(ramp.size() - 1);
  const std::size_t low = std::min(std::size_t(at), ramp.size() - 2);
  const double part = at - double(low);
  const auto mix = [&](double a, double b) { return a + (b - a) * part; };
  const Colour a = ramp[low], b = ramp[low + 1];
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

class Canvas {
 public:
  Canvas(int width, int height)
      : width_(width), height_(height), bytes_(std::size_t(width) * std::size_t(height) * 3, 255) {}

  void fill(int x, int y, int width, int height, Colour colour) {
    for (int row = std::max(y, 0); row < std::min(y + height, height_); ++row)
      for (int column = std::max(x, 0); column < std::min(x + width, width_); ++column) {
        unsigned char* pixel =
            &bytes_[(std::size_t(row) * std::size_t(width_) + std::size_t(column)) * 3];
        pixel[0] = static_cast<unsigned char>(std::lround(colour.r));
        pixel[1] = static_cast<unsigned char>(std::lround(colour.g));
        pixel[2] = static_cast<unsigned char>(std::lround(colour.b));
      }
  }

  /// ASCII, its top left corner at (x, y); a letter is about 6 · size wide and 8 · size high.
  void text(int x, int y, int size, const std::string& words, Colour colour) {
    struct Corner {
      float x, y, z;
      unsigned char colour[4];
    };
    std::vector<Corner> corners(words.size() * 80 + 80);
    std::string copy = words;
    const int quads = stb_easy_font_print(0, 0, copy.data(), nullptr, corners.data(),
                                          int(corners.size() * sizeof(Corner)));
    for (int quad = 0; quad < quads; ++quad) {
      const Corner &a = corners[std::size_t(quad) * 4], &b = corners[std::size_t(quad) * 4 + 2];
      fill(x + int(a.x) * size, y + int(a.y) * size, int(b.x - a.x) * size, int(b.y - a.y) * size,
           colour);
    }
  }
  static int width_of(int size, std::string words) {
    return stb_easy_font_width(words.data()) * size;
  }

  void save(const std::filesystem::path& path) const {
    // stb's own way to a file does not notice a full disk.
    programs::write_whole(path, [&](std::ostream& stream) {
      const auto write = [](void* to, void* data, int size) {
        static_cast<std::ostream*>(to)->write(static_cast<const char*>(data), size);
      };
      if (stbi_write_png_to_func(write, &stream, width_, height_, 3, bytes_.data(), width_ * 3) ==
          0)
        stream.setstate(std::ios::failbit);
    });
  }

 private:
  int width_, height_;
  std::vector<unsigned char> bytes_;
};

/// A triangular map of N × N numbers with verses along its sides and a scale below.
struct Panel {
  std::string title, says;
  std::span<const float> values;
  const Ramp& ramp;
  double most;  ///< the darkest; √ of the share is what darkness shows
  std::vector<double> ticks;
};

constexpr int cell = 3, title_height = 74, below = 92, left = 72, gap = 24, margin = 32;

void draw(Canvas& canvas, int x, int y, const Panel& panel, const Text& text) {
  const int tokens = int(text.size()), side = tokens * cell;
  canvas.text(x, y, 3, panel.title, ink);
  canvas.text(x, y + 38, 2, panel.says, faint);
  y += title_height;
  canvas.fill(x, y, side, side, hidden);
  for (int i = 0; i < tokens; ++i)
    for (int j = 0; j <= i; ++j) {
      const double value = panel.values[std::size_t(i) * std::size_t(tokens) + std::size_t(j)];
      canvas.fill(x + j * cell, y + i * cell, cell, cell,
                  of(panel.ramp, std::sqrt(std::max(value, 0.) / panel.most)));
    }

  // Verses: a line where one begins, its number beside the rows.
  const auto& words = text.words();
  for (int i = 1; i < tokens; ++i) {
    const std::string& verse = words[std::size_t(i)].verse;
    if (verse == words[std::size_t(i) - 1].verse) continue;
    canvas.fill(x - 8, y + i * cell, 8, 1, faint);
    canvas.fill(x + i * cell, y + side, 1, 8, faint);
    canvas.text(x - 13 - Canvas::width_of(2, verse), y + i * cell + 1, 2, verse, faint);
  }

  const int bar = 330, bar_y = y + side + 28;
  for (int step = 0; step < bar; ++step)
    canvas.fill(x + step, bar_y, 1, 16, of(panel.ramp, double(step) / (bar - 1)));
  for (const double tick : panel.ticks) {
    const int at = x + int(std::lround(std::sqrt(tick / panel.most) * (bar - 1)));
    char label[16];
    std::snprintf(label, sizeof label, "%g", tick);
    canvas.fill(at, bar_y + 16, 1, 5, faint);
    canvas.text(at - Canvas::width_of(2, label) / 2, bar_y + 25, 2, label, faint);
  }
}

const Run& find(const Runs& runs, const std::string& id) {
  return *std::ranges::find(runs.runs, id, &Run::id);
}

}  // namespace

void write_picture(const std::filesystem::path& path, const Text& text, const Runs& runs) {
  constexpr std::size_t head = 3;
  const std::size_t tokens = std::size_t(text.size()), map = tokens * tokens;
  const auto recalling = [&](const char* id) {
    return std::span<const float>(find(runs, id).weights).subspan(head * map, map);
  };
  const double most_f = *std::ranges::max_element(runs.f);
  const std::vector<double> shares{0, 0.05, 0.25, 0.5, 1};
  const Panel panels[] = {
      {"Standard attention", "Head 3 finds every earlier place of the word it reads.",
       recalling("standard"), blues, 1, shares},
      {"Selective attention", "The same head: older places are masked, the last one is left.",
       recalling("selective"), blues, 1, shares},
      {"F, what is subtracted",
       "A column darkens each time its word is said again.",
       runs.f,
       oranges,
       most_f,
       {0, 1, 5, 20, 50, 100}},
  };
  const int side = int(tokens) * cell, head_room = 112;
  Canvas canvas(2 * margin + 3 * (left + side) + 2 * gap,
                margin + head_room + title_height + side + below);
  canvas.text(margin, margin, 4,
              "Genesis " + text.words()[1].verse + " to " + text.words().back().verse + ": " +
                  std::to_string(tokens) + " tokens",
              ink);
  canvas.text(
      margin, margin + 46, 2,
      "Rows are words reading, from top to bottom; columns are the words they look back at.",
      faint);
  int x = margin + left;
  for (const Panel& panel : panels) {
    draw(canvas, x, margin + head_room, panel, text);
    x += side + gap + left;
  }
  canvas.save(path);
}

}  // namespace demo
