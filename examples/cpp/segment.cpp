// Segments a picture with a package of tools/export.py --to aoti: no Python, the scans on mmvim's own kernels.
//
//   segment MODEL.aoti.pt2 KERNELS PICTURE.ppm LABELS.pgm
//
// KERNELS is mmvim's compiled library, mmvim/_C.abi3.so in an installation. It needs torch's libraries only.
#include <dlfcn.h>

#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/library.h>

#include "ppm.h"

using Metadata = std::unordered_map<std::string, std::string>;

namespace {

const std::string& entry(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw std::runtime_error("the package was not made by tools/export.py --to aoti");
  return found->second;
}

template <class T>
std::vector<T> numbers(const std::string& text) {
  std::istringstream stream(text);
  std::vector<T> found;
  for (T number; stream >> number;) found.push_back(number);
  return found;
}

// In Python mmvim declares its operators; here their schemas come with the package. The library implements them.
void load_operators(const std::string& schemas, const std::string& library) {
  static torch::Library declared(torch::Library::FRAGMENT, "mmvim", std::nullopt, __FILE__, __LINE__);
  std::istringstream lines(schemas);
  for (std::string schema; std::getline(lines, schema);) declared.def(schema.c_str());
  if (!dlopen(library.c_str(), RTLD_NOW)) throw std::runtime_error(std::string("no kernels: ") + dlerror());
}

// (1, 3, H, W), as the model's images are in training.
at::Tensor normalised(const Picture& picture, const Metadata& metadata) {
  const auto as_column = [&](const char* key) {
    return at::tensor(numbers<float>(entry(metadata, key))).view({-1, 1, 1});
  };
  auto image = at::from_blob(const_cast<uint8_t*>(picture.pixels.data()), {picture.height, picture.width, 3},
                                at::kByte);
  image = image.permute({2, 0, 1}).to(at::kFloat);
  if (entry(metadata, "channels") == "BGR") image = image.flip(0);
  return ((image - as_column("mean")) / as_column("std")).unsqueeze(0).contiguous();
}

void segment(const std::string& package, const std::string& library, const std::string& from, const std::string& to) {
  using torch::inductor::AOTIModelPackageLoader;
  const Metadata metadata = AOTIModelPackageLoader::load_metadata_from_package(package, "model");
  const Picture picture = read_ppm(from);
  const auto size = numbers<int64_t>(entry(metadata, "size"));
  if (size != std::vector<int64_t>{picture.height, picture.width}) {
    std::ostringstream text;
    text << "the model takes pictures of " << size[0] << " x " << size[1] << ", " << from << " has " << picture.height
         << " x " << picture.width;
    throw std::runtime_error(text.str());
  }
  load_operators(entry(metadata, "schemas"), library);
  const c10::InferenceMode guard;
  AOTIModelPackageLoader model(package);
  const auto labels = model.run({normalised(picture, metadata)})[0].argmax(1).to(at::kByte).contiguous();
  const auto* data = labels.data_ptr<uint8_t>();
  write_pgm(to, picture.height, picture.width, {data, data + labels.numel()});
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::cerr << "segment MODEL.aoti.pt2 KERNELS PICTURE.ppm LABELS.pgm\n";
    return 2;
  }
  try {
    segment(arguments[1], arguments[2], arguments[3], arguments[4]);
  } catch (const std::exception& error) {
    // Errors of torch go on with a trace behind their first line.
    std::cerr << "error: " << std::string(error.what()).substr(0, std::string(error.what()).find('\n')) << '\n';
    return 1;
  }
}
