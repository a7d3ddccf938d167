// Pictures as PPM and PGM, which need no library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  // rows of RGB
};

// Reads a binary PPM (P6) of 8 bits; throws std::runtime_error, with what is wrong, if the file is none.
Picture read_ppm(const std::string& path);

// Writes one byte a pixel as a binary PGM (P5); throws std::runtime_error if that cannot be done.
void write_pgm(const std::string& path, int64_t height, int64_t width, const std::vector<uint8_t>& labels);
