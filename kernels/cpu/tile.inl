// Tiles: kTile steps x a group of channels, packed so that one vector of channels of all steps is contiguous:
// tile[block][step][lane]. Rows of a tensor are touched once per tile, whatever order the walk has.
namespace mmvim::MMVIM_ISA {

// Owns scratch memory, counted in elements.
template <class T>
struct Buffer {
  T* data;
  explicit Buffer(int64_t count) : data(static_cast<T*>(allocate(static_cast<size_t>(count) * sizeof(T)))) {}
  ~Buffer() { release(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

template <class T>
MMVIM_HD void fill_zero(T* p, int64_t count) {
  __builtin_memset(static_cast<void*>(p), 0, static_cast<size_t>(count) * sizeof(T));
}

// No more threads than there is work for, in elements of an innermost loop: waking one takes as long as 50000 of them.
MMVIM_HD Pool for_work(Pool pool, int64_t elements) {
  pool.threads = larger(smaller(pool.threads, elements / 50000), 1);
  return pool;
}

// Every worker calls `work(next)`, and `next()` hands out each unit 0 .. units - 1 once and then -1.
struct Counter {
  int64_t value, end;
  int64_t operator()() {
    const int64_t unit = __atomic_fetch_add(&value, 1, __ATOMIC_RELAXED);
    return unit < end ? unit : -1;
  }
};
template <class Work>
static void for_units(const Pool& pool, int64_t units, Work work) {
  if (units <= 0) return;
  struct Context {
    Counter next;
    Work* work;
  } context{{0, units}, &work};
  const int64_t workers = smaller(units, pool.threads);
  auto body = [](void* raw) {
    Context& c = *static_cast<Context*>(raw);
    (*c.work)(c.next);
  };
  if (workers <= 1 || !pool.run)
    body(&context);
  else
    pool.run(workers, body, &context);
}

// A group of neighbouring channels handled together, in `blocks` vectors of which the last may be partly filled.
struct Group {
  int64_t first;
  int width, blocks;
};

constexpr int kMostChannels = 64;  // of a group of a scan
template <class T>
constexpr int kMostBlocks = kMostChannels / kLanes<T>;

// How the channels are cut: wide groups use whole cache lines and share B and C, narrow ones give more units of work.
// A function of the shape alone, as everything is that decides the order of a sum.
struct Grouping {
  int64_t channels, width, count;
  Grouping(int64_t outer, int64_t channels_, int64_t most = kMostChannels) : channels(channels_), width(most) {
    constexpr int64_t kWanted = 8;
    while (width > 16 && outer * ceil_div(channels, width) < kWanted) width -= 16;
    count = ceil_div(channels, width);
    width = ceil_div(ceil_div(channels, count), 16) * 16;
    count = ceil_div(channels, width);
  }
  template <class T>
  Group group(int64_t index) const {
    const int64_t first = index * width, n = smaller(width, channels - first);
    return {first, static_cast<int>(n), static_cast<int>(ceil_div(n, kLanes<T>))};
  }
  // Elements of one tile.
  template <class T>
  int64_t tile() const {
    return ceil_div(width, kLanes<T>) * kLanes<T> * kTile;
  }
};

// Rows of the steps of one tile; -1 where there is none.
struct TileRows {
  int64_t token[kTile];
  int64_t own[kTile];  // the steps themselves, for tensors in walking order
  int count;
};

static inline void find_rows(const Walks& w, int64_t k, int64_t begin, int count, TileRows& rows) {
  rows.count = count;
  if (w.table) {
    for (int i = 0; i < count; ++i) rows.token[i] = w.table[k * w.steps + begin + i];
  } else {
    const bool reversed = is_reversed(w.kinds[k]);
    if (is_column(w.kinds[k])) {
      // One division per tile, then down the column and on to the next.
      const int64_t start = reversed ? w.tokens - 1 - begin : begin;
      int64_t row = start % w.height, column = start / w.height;
      for (int i = 0; i < count; ++i) {
        rows.token[i] = row * w.width + column;
        if (!reversed && ++row == w.height) row = 0, ++column;
        if (reversed && --row < 0) row = w.height - 1, --column;
      }
    } else {
      for (int i = 0; i < count; ++i) rows.token[i] = reversed ? w.tokens - 1 - begin - i : begin + i;
    }
  }
  for (int i = 0; i < count; ++i) rows.own[i] = begin + i;
}

// Which tokens the walks of a table come to. One that comes to every token once has its outputs stored like a walk along
// rows or columns; otherwise rows that it leaves out are zeroed first, and all of them where it comes to one twice.
class Visits {
 public:
  Visits(const Walks& w, const Pool& pool)
      : tokens_(w.table ? w.tokens : 0), seen_(w.count * tokens_), missing_(w.count), once_(w.count) {
    for_units(for_work(pool, w.count * tokens_), w.count, [&](Counter& next) {
      for (int64_t k; (k = next()) >= 0;) count(w, k);
    });
  }

  bool once(int64_t k) const { return once_.data[k]; }                    // no token twice
  bool whole(int64_t k) const { return once(k) && !missing_.data[k]; }  // every token once

  // Zeroes `width` elements of the row of each token that walk k leaves out, of all if it has a token twice.
  template <class T>
  void zero_rest(int64_t k, T* base, int64_t stride, int64_t width) const {
    if (whole(k)) return;
    for (int64_t t = 0; t < tokens_; ++t)
      if (!once(k) || !seen_.data[k * tokens_ + t]) fill_zero(base + t * stride, width);
  }

 private:
  void count(const Walks& w, int64_t k) {
    int64_t steps = 0, seen = 0;
    uint8_t* at = seen_.data + k * tokens_;
    fill_zero(at, tokens_);
    for (int64_t s = 0; w.table && s < w.steps; ++s) {
      const int32_t token = w.table[k * w.steps + s];
      if (token >= 0) at[token] = 1, ++steps;
    }
    for (int64_t t = 0; t < tokens_; ++t) seen += at[t];
    missing_.data[k] = tokens_ - seen;
    once_.data[k] = steps == seen;
  }

  const int64_t tokens_;
  Buffer<uint8_t> seen_;
  Buffer<int64_t> missing_;
  Buffer<bool> once_;
};

// Rows of the next tile. A walk jumps from page to page, which the hardware does not foresee, and asking for a whole tile
// in one go stalls as much as reading it; so the innermost loops ask for a cache line or two at every step.
struct Ahead {
  const char* row[6][kTile];
  int64_t block[6];  // bytes of one vector of channels, 0 for rows that all channels share
  int used = 0;

  void add(DType type, const void* data, int64_t offset, int64_t stride, const TileRows& rows, const int64_t* at,
           int lanes) {
    const int64_t size = bytes_of(type);
    const char* base = static_cast<const char*>(data) + offset * size;
    for (int i = 0; i < rows.count; ++i) row[used][i] = base + larger(at[i], 0) * (stride * size);
    for (int i = rows.count; i < kTile; ++i) row[used][i] = base;
    block[used++] = lanes * size;
  }
  void ask(int step, int vector) const {
    for (int i = 0; i < used; ++i) __builtin_prefetch(row[i][step] + vector * block[i]);
  }
};

// tile = rows of memory, 0 where there is no row.
template <class T, class X>
static void load_tile_as(const X* base, int64_t stride, const int64_t* rows, int count, const Group& g, T* tile) {
  constexpr int V = kLanes<T>;
  const int full = g.width / V, rest = g.width % V;
  for (int i = 0; i < count; ++i) {
    const X* p = base + rows[i] * stride;
    T* out = tile + i * V;
    if (rows[i] < 0) {
      for (int b = 0; b < g.blocks; ++b) store<T>(out + b * kTile * V, Vec<T>{});
      continue;
    }
    for (int b = 0; b < full; ++b) store<T>(out + b * kTile * V, load<T>(p + b * V));
    if (rest) store<T>(out + full * kTile * V, load_some<T>(p + full * V, rest));
  }
}

template <class T>
static void load_tile(DType type, const void* data, int64_t offset, int64_t stride, const int64_t* rows, int count,
                      const Group& g, T* tile) {
  with_type<T>(type, [&]<class X>(X*) {
    load_tile_as<T>(static_cast<const X*>(data) + offset + g.first, stride, rows, count, g, tile);
  });
}

// Rows of memory = tile, nothing where there is no row.
template <class T, class X>
static void store_tile_as(X* base, int64_t stride, const int64_t* rows, int count, const Group& g, const T* tile) {
  constexpr int V = kLanes<T>;
  const int full = g.width / V, rest = g.width % V;
  for (int i = 0; i < count; ++i) {
    if (rows[i] < 0) continue;
    X* p = base + rows[i] * stride;
    const T* in = tile + i * V;
    for (int b = 0; b < full; ++b) store<T>(p + b * V, load<T>(in + b * kTile * V));
    if (rest) store_some<T>(p + full * V, load<T>(in + full * kTile * V), rest);
  }
}

template <class T>
static void store_tile(DType type, void* data, int64_t offset, int64_t stride, const int64_t* rows, int count,
                       const Group& g, const T* tile) {
  with_type<T>(type, [&]<class X>(X*) {
    store_tile_as<T>(static_cast<X*>(data) + offset + g.first, stride, rows, count, g, tile);
  });
}

// Rows of memory in the state type += tile; `base` is at the group's first channel.
template <class T>
static void add_tile(T* base, int64_t stride, const int64_t* rows, int count, const Group& g, const T* tile) {
  constexpr int V = kLanes<T>;
  const int full = g.width / V, rest = g.width % V;
  for (int i = 0; i < count; ++i) {
    if (rows[i] < 0) continue;
    T* p = base + rows[i] * stride;
    const T* in = tile + i * V;
    for (int b = 0; b < full; ++b) store<T>(p + b * V, load<T>(p + b * V) + load<T>(in + b * kTile * V));
    if (rest) store_some<T>(p + full * V, load_some<T>(p + full * V, rest) + load<T>(in + full * kTile * V), rest);
  }
}

// out[i] = values of one row, converted.
template <class T, class X>
static void load_row(const X* p, int n, T* out) {
  constexpr int V = kLanes<T>;
  if (n == 1) {
    *out = load_one<T>(p);
    return;
  }
  int i = 0;
  for (; i + V <= n; i += V) store<T>(out + i, load<T>(p + i));
  if (i < n) store_some<T>(out + i, load_some<T>(p + i, n - i), n - i);
}

// out[block][lane] = values of the group's channels, 0 beyond them and where the parameter is absent.
template <class T>
static void load_channels(const Parameter& p, int64_t k, const Group& g, T* out) {
  const int padded = g.blocks * kLanes<T>;
  const T* data = static_cast<const T*>(p.data) + (p.data ? k * p.walk + g.first : 0);
  for (int c = 0; c < padded; ++c) out[c] = p.data && c < g.width ? data[c] : T(0);
}

// out[block][i][lane] = matrix[channel][i] for a (channels, n) parameter, 0 beyond the group's channels.
template <class T>
static void load_transposed(const Parameter& p, int64_t k, const Group& g, int64_t n, T* out) {
  constexpr int V = kLanes<T>;
  const T* data = static_cast<const T*>(p.data) + k * p.walk + g.first * n;
  if (n == 1) return load_channels(p, k, g, out);
  for (int b = 0; b < g.blocks; ++b)
    transpose<true>(data + b * V * n, n, smaller(V, g.width - b * V), n, out + b * V * n, V);
}

// out[i] = sum over parts of part[i], in the order of the parts.
template <class T>
static void sum_parts(const Pool& pool, const T* parts, int64_t count, int64_t size, T* out) {
  constexpr int64_t kSlice = 4096;
  for_units(for_work(pool, count * size), ceil_div(size, kSlice), [&](Counter& next) {
    for (int64_t unit; (unit = next()) >= 0;) {
      const int64_t begin = unit * kSlice, end = smaller(begin + kSlice, size);
      for (int64_t i = begin; i < end; ++i) out[i] = parts[i];
      for (int64_t part = 1; part < count; ++part)
        for (int64_t i = begin; i < end; ++i) out[i] += parts[part * size + i];
    }
  });
}

}  // namespace mmvim::MMVIM_ISA
