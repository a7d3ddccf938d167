#include "ppm.h"

#include <cctype>
#include <fstream>
#include <stdexcept>

namespace {

constexpr int64_t kLargestSide = 1 << 16;

// A number of the header, behind white space and comments.
int64_t header_number(std::istream& file, const std::string& path) {
  while (std::isspace(file.peek()) || file.peek() == '#') {
    if (file.get() == '#') {
      std::string comment;
      std::getline(file, comment);
    }
  }
  int64_t number = 0;
  if (!(file >> number) || number < 1 || number > kLargestSide) {
    throw std::runtime_error(path + " has no sizes in its header, or impossible ones");
  }
  return number;
}

}  // namespace

Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("there is no file " + path);
  char magic[2] = {};
  file.read(magic, 2);
  if (magic[0] != 'P' || magic[1] != '6') {
    throw std::runtime_error(path + " is no binary PPM: convert picture.jpg " + path + " makes one");
  }
  Picture picture;
  picture.width = header_number(file, path);
  picture.height = header_number(file, path);
  if (header_number(file, path) != 255) throw std::runtime_error(path + " has other than 8 bits a channel");
  file.get();  // one white space ends the header
  picture.pixels.resize(static_cast<size_t>(picture.height * picture.width * 3));
  file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
  if (file.gcount() != static_cast<std::streamsize>(picture.pixels.size())) {
    throw std::runtime_error(path + " is cut off");
  }
  return picture;
}

void write_pgm(const std::string& path, int64_t height, int64_t width, const std::vector<uint8_t>& labels) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << width << ' ' << height << "\n255\n";
  file.write(reinterpret_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.size()));
  file.flush();
  if (!file) throw std::runtime_error(path + " cannot be written");
}
