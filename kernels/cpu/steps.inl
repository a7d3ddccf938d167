// What all channels of a step share: the low-rank delta, B and C, in walking order and in the state type. Made once for
// all groups of channels, which would each look for the same rows and convert them.
//
// A low-rank delta in bfloat16 is kept as it is, in pairs, where the processor adds up products of pairs; the weight of
// the projection is rounded for it. A backward pass needs the values too.
namespace mmvim::MMVIM_ISA {

template <class T>
MMVIM_HD bool in_pairs(const ScanInputs& p) {
  return kPairs<T> && p.rank && p.io == DType::kBFloat16;
}

template <class T>
class SharedSteps {
 public:
  SharedSteps(const ScanInputs& p, const Pool& pool, bool backward)
      : p(p),
        pairs_(in_pairs<T>(p) ? ceil_div(p.rank, 2) : 0),
        low_at_(pairs_),
        b_at_(pairs_ + (pairs_ && !backward ? 0 : p.rank)),
        c_at_(b_at_ + p.states),
        width_(c_at_ + p.states),
        data_(size()) {
    const int64_t chains = p.batch * p.walks.count, slices = ceil_div(p.walks.steps, kSlice);
    for_units(for_work(pool, size()), chains * slices, [&](Counter& next) {
      for (int64_t unit; (unit = next()) >= 0;) load(unit / slices, unit % slices * kSlice);
    });
  }

  // Values from step s of a walk on; `stride` from one step to the next.
  const T* projected(int64_t b, int64_t k, int64_t s) const { return at(b, k, s); }  // what `project` takes
  const T* low(int64_t b, int64_t k, int64_t s) const { return at(b, k, s) + low_at_; }
  const T* b(int64_t b, int64_t k, int64_t s) const { return at(b, k, s) + b_at_; }
  const T* c(int64_t b, int64_t k, int64_t s) const { return at(b, k, s) + c_at_; }
  int stride() const { return static_cast<int>(width_); }

 private:
  static constexpr int64_t kSlice = 16 * kTile;

  int64_t size() const { return p.batch * p.walks.count * p.walks.steps * width_; }
  T* at(int64_t b, int64_t k, int64_t s) const {
    return data_.data + ((b * p.walks.count + k) * p.walks.steps + s) * width_;
  }

  void load(int64_t chain, int64_t begin) {
    const int64_t b = chain / p.walks.count, k = chain % p.walks.count;
    const int64_t end = smaller(begin + kSlice, p.walks.steps);
    TileRows rows;
    for (int64_t s = begin; s < end; s += kTile) {
      find_rows(p.walks, k, s, static_cast<int>(smaller(kTile, end - s)), rows);
      T* out = at(b, k, s);
      if (pairs_) load_pairs(b, k, rows, out);
      if (low_at_ < b_at_) load_column(p.delta, b, k, p.rank, rows, out + low_at_);
      load_column(p.b, b, k, p.states, rows, out + b_at_);
      load_column(p.c, b, k, p.states, rows, out + c_at_);
    }
  }

  void load_column(const Rows& from, int64_t b, int64_t k, int64_t n, const TileRows& rows, T* out) const {
    const int64_t* row = p.param_step ? rows.own : rows.token;
    with_type<T>(p.io, [&]<class X>(X*) {
      const X* base = static_cast<const X*>(from.data) + b * from.batch + k * from.walk;
      for (int i = 0; i < rows.count; ++i, out += width_) {
        if (row[i] < 0)
          fill_zero(out, n);
        else
          load_row<T>(base + row[i] * from.row, static_cast<int>(n), out);
      }
    });
  }

  void load_pairs(int64_t b, int64_t k, const TileRows& rows, T* out) const {
    const int64_t* row = p.param_step ? rows.own : rows.token;
    const BFloat16* base = static_cast<const BFloat16*>(p.delta.data) + b * p.delta.batch + k * p.delta.walk;
    for (int i = 0; i < rows.count; ++i, out += width_) {
      if (row[i] < 0 || p.rank % 2) fill_zero(out, pairs_);
      if (row[i] < 0) continue;
      __builtin_memcpy(out, base + row[i] * p.delta.row, static_cast<size_t>(p.rank) * sizeof(BFloat16));
    }
  }

  const ScanInputs& p;
  const int64_t pairs_, low_at_, b_at_, c_at_, width_;
  Buffer<T> data_;
};

}  // namespace mmvim::MMVIM_ISA
