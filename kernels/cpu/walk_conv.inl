// Depthwise causal convolution along walks, with SiLU. Steps are independent but for a halo of taps - 1, so a unit of
// work is a block of consecutive positions x a channel group; a walk and its reverse share the block's tokens, so that
// x comes from memory once for both.
namespace mmvim::MMVIM_ISA {

constexpr int kMostTaps = kTile;

// How the positions of a walk are cut; a function of the shape alone, since the weight's gradient is a sum over blocks.
struct ConvBlocks {
  int64_t steps, length, count;
  explicit ConvBlocks(int64_t steps) : steps(steps) {
    constexpr int64_t kMost = 16, kShortest = 4 * kTile;
    length = ceil_div(larger(ceil_div(steps, kMost), kShortest), kTile) * kTile;
    count = ceil_div(steps, length);
  }
};

template <class T>
class ConvWorker {
 public:
  ConvWorker(const ConvInputs& p, const Grouping& grouping, const ConvBlocks& blocks)
      : p(p),
        grouping(grouping),
        blocks(blocks),
        taps(static_cast<int>(p.taps)),
        weight(lanes() * taps),
        bias(lanes()),
        x(lanes() * (kTile + taps)),
        y(grouping.tile<T>()) {}

  void begin(int64_t batch, int64_t walk, int64_t block, int64_t group_index) {
    b_ = batch, k_ = walk, g_ = grouping.group<T>(group_index);
    const bool reversed = !p.walks.table && is_reversed(p.walks.kinds[k_]);
    const int64_t first = block * blocks.length, last = smaller(first + blocks.length, p.walks.steps);
    begin_ = reversed ? p.walks.steps - last : first;
    end_ = reversed ? p.walks.steps - first : last;
    load_transposed({p.weight, p.channels * p.taps}, k_, g_, p.taps, weight.data);
    load_channels({p.bias, p.channels}, k_, g_, bias.data);
  }

  void forward(const ConvForward& f) {
    const int64_t output_rows = p.step ? p.walks.steps : p.walks.tokens;
    for (int64_t s = begin_; s < end_; s += kTile) {
      const int count = static_cast<int>(smaller(kTile, end_ - s));
      load_window(s, count);
      with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
        for (int i = 0; i < g_.blocks; ++i) {
          T* out = y.data + i * kTile * V;
          each_sum(i, count, [&](int j, Vec<T> v) { store<T>(out + j * V, p.silu ? v * sigmoid<A>(v) : v); });
        }
      });
      store_tile(p.io, f.y, (b_ * p.walks.count + k_) * output_rows * p.channels, p.channels,
                 p.step ? rows.own : rows.token, count, g_, y.data);
    }
  }

 protected:
  static constexpr int V = kLanes<T>;
  int64_t lanes() const { return grouping.tile<T>() / kTile; }
  int window() const { return kTile + taps; }

  // x of steps [s - taps + 1, s + count), 0 before the walk, as [block][window][lane]; leaves `rows` at [s, s + count).
  void load_window(int64_t s, int count) {
    const int halo = static_cast<int>(smaller(taps - 1, s)), missing = taps - 1 - halo;
    for (int i = 0; i < g_.blocks; ++i) fill_zero(x.data + i * window() * V, missing * V);
    if (halo) {
      find_rows(p.walks, k_, s - halo, halo, rows);
      load_part(missing, halo);
    }
    find_rows(p.walks, k_, s, count, rows);
    load_part(taps - 1, count);
  }

  // sum over taps, before the activation, of steps 0 .. count - 1 of the window
  template <class Body>
  void each_sum(int block, int count, Body body) const {
    const T* w = weight.data + block * taps * V;
    const T* in = x.data + block * window() * V;
    const Vec<T> start = load<T>(bias.data + block * V);
    if (taps == 4)
      each_sum_of<4>(w, in, start, count, body);
    else if (taps == 3)
      each_sum_of<3>(w, in, start, count, body);
    else
      for (int j = 0; j < count; ++j) {
        Vec<T> sum = start;
        for (int i = 0; i < taps; ++i) sum += load<T>(w + i * V) * load<T>(in + (j + i) * V);
        body(j, sum);
      }
  }

  const ConvInputs& p;
  const Grouping& grouping;
  const ConvBlocks& blocks;
  const int taps;
  Buffer<T> weight, bias, x, y;
  TileRows rows;
  int64_t b_ = 0, k_ = 0, begin_ = 0, end_ = 0;
  Group g_{};

 private:
  template <int Taps, class Body>
  static void each_sum_of(const T* w, const T* in, Vec<T> start, int count, Body body) {
    Vec<T> tap[Taps];
    for (int i = 0; i < Taps; ++i) tap[i] = load<T>(w + i * V);
    for (int j = 0; j < count; ++j) {
      Vec<T> sum = start;
      for (int i = 0; i < Taps; ++i) sum += tap[i] * load<T>(in + (j + i) * V);
      body(j, sum);
    }
  }

  void load_part(int at, int count) {
    const int64_t offset = b_ * p.x.batch + g_.first;
    with_type<T>(p.io, [&]<class X>(X*) {
      const X* base = static_cast<const X*>(p.x.data) + offset;
      const int full = g_.width / V, rest = g_.width % V, step = window() * V;
      for (int j = 0; j < count; ++j) {
        const X* from = base + rows.token[j] * p.x.row;
        T* to = x.data + (at + j) * V;
        if (rows.token[j] < 0) {
          for (int i = 0; i < g_.blocks; ++i) store<T>(to + i * step, Vec<T>{});
          continue;
        }
        for (int i = 0; i < full; ++i) store<T>(to + i * step, load<T>(from + i * V));
        if (rest) store<T>(to + full * step, load_some<T>(from + full * V, rest));
      }
    });
  }
};

MMVIM_HD int64_t elements(const ConvInputs& p) {
  return p.batch * p.walks.count * p.walks.steps * p.channels * (p.taps / 4 + 4);
}

template <class T>
static void conv_forward(const ConvForward& p, const Pool& all) {
  const Pool pool = for_work(all, elements(p));
  const ConvBlocks blocks(p.walks.steps);
  // There is no state to keep in registers, so whole rows are taken: memory is read and written in longer pieces.
  const Grouping grouping(p.batch * blocks.count, p.channels, 512);
  const Visits visits(p.walks, pool);
  const int64_t row = p.channels * bytes_of(p.io);
  for (int64_t i = 0; i < p.batch * p.walks.count && !p.step; ++i)
    visits.zero_rest(i % p.walks.count, static_cast<char*>(p.y) + i * p.walks.tokens * row, row, row);
  for_units(pool, p.batch * blocks.count * grouping.count, [&](Counter& next) {
    ConvWorker<T> worker(p, grouping, blocks);
    for (int64_t unit; (unit = next()) >= 0;) {
      const int64_t group = unit % grouping.count, index = unit / grouping.count;
      for (int64_t k = 0; k < p.walks.count; ++k) {
        worker.begin(index / blocks.count, k, index % blocks.count, group);
        worker.forward(p);
      }
    }
  });
}

// Gradients: with e = dL/d(sum over taps), dx at step s = sum_j w_j e[s + taps - 1 - j] and dw_j = sum_s e[s] x[s - taps + 1 + j].
template <class T>
class ConvBackwardWorker : ConvWorker<T> {
 public:
  ConvBackwardWorker(const ConvBackward& p, const Grouping& grouping, const ConvBlocks& blocks)
      : ConvWorker<T>(p, grouping, blocks),
        f(p),
        e(this->lanes() * (kTile + this->taps)),
        grad(grouping.tile<T>()),
        dweight(this->lanes() * this->taps),
        dbias(this->lanes()) {}

  // Writes or adds dx of the block's tokens; dweight, dbias: this block's part, (walks, channels[, taps]).
  void backward(int64_t batch, int64_t walk, int64_t block, int64_t group_index, bool add, T* dweight_part, T* dbias_part) {
    this->begin(batch, walk, block, group_index);
    fill_zero(dweight.data, g_.blocks * taps * V);
    fill_zero(dbias.data, g_.blocks * V);
    T* dx = f.dx ? static_cast<T*>(f.dx) + batch * f.walks.tokens * f.channels + g_.first : nullptr;
    const int halo = static_cast<int>(smaller(taps - 1, f.walks.steps - end_));
    for (int i = 0; i < g_.blocks; ++i) fill_zero(e.data + i * window() * V, window() * V);
    if (halo) slopes(end_, halo);
    for (int64_t s = begin_ + (end_ - 1 - begin_) / kTile * kTile; s >= begin_; s -= kTile) {
      const int count = static_cast<int>(smaller(kTile, end_ - s));
      // The slopes at the front belong to the steps just after this tile.
      for (int i = 0; i < g_.blocks; ++i) {
        T* row = e.data + i * window() * V;
        for (int j = taps - 2; j >= 0; --j) store<T>(row + (count + j) * V, load<T>(row + j * V));
      }
      slopes(s, count);
      for (int i = 0; i < g_.blocks; ++i) {
        accumulate(i, count);
        if (!f.dx) continue;
        const T* w = this->weight.data + i * taps * V;
        const T* in = e.data + i * window() * V;
        T* out = this->y.data + i * kTile * V;
        for (int j = 0; j < count; ++j) {
          Vec<T> sum = {};
          for (int tap = 0; tap < taps; ++tap) sum += load<T>(w + tap * V) * load<T>(in + (j + taps - 1 - tap) * V);
          store<T>(out + j * V, sum);
        }
      }
      if (!f.dx) continue;
      if (add)
        add_tile(dx, f.channels, this->rows.token, count, g_, this->y.data);
      else
        store_tile_as<T>(dx, f.channels, this->rows.token, count, g_, this->y.data);
    }
    const int64_t first = walk * f.channels + g_.first;
    for (int c = 0; c < g_.width; ++c) {
      for (int tap = 0; tap < taps; ++tap)
        dweight_part[(first + c) * taps + tap] = dweight.data[(c / V * taps + tap) * V + c % V];
      if (dbias_part) dbias_part[first + c] = dbias.data[c];
    }
  }

 private:
  using ConvWorker<T>::taps;
  using ConvWorker<T>::g_;
  using ConvWorker<T>::k_;
  using ConvWorker<T>::b_;
  using ConvWorker<T>::begin_;
  using ConvWorker<T>::end_;
  using ConvWorker<T>::window;
  static constexpr int V = kLanes<T>;

  // e[0 .. count) = slopes of steps [s, s + count).
  void slopes(int64_t s, int count) {
    this->load_window(s, count);
    load_tile(f.io, f.grad.data, b_ * f.grad.batch + k_ * f.grad.walk, f.grad.row,
              f.step ? this->rows.own : this->rows.token, count, g_, grad.data);
    with_accuracy<T>(f.io, [&]<Accuracy A>(Deserved<A>) {
      for (int i = 0; i < g_.blocks; ++i) {
        T* out = e.data + i * window() * V;
        const T* dy = grad.data + i * kTile * V;
        this->each_sum(i, count, [&](int j, Vec<T> v) {
          Vec<T> slope = load<T>(dy + j * V);
          if (f.silu) {
            const Vec<T> sig = sigmoid<A>(v);
            slope *= sig * (1 + v * (1 - sig));
          }
          store<T>(out + j * V, slope);
        });
      }
    });
  }

  void accumulate(int i, int count) {
    const T* slope = e.data + i * window() * V;
    const T* in = this->x.data + i * window() * V;
    for (int tap = 0; tap < taps; ++tap) {
      T* at = dweight.data + (i * taps + tap) * V;
      Vec<T> sum = load<T>(at);
      for (int j = 0; j < count; ++j) sum += load<T>(slope + j * V) * load<T>(in + (j + tap) * V);
      store<T>(at, sum);
    }
    Vec<T> sum = load<T>(dbias.data + i * V);
    for (int j = 0; j < count; ++j) sum += load<T>(slope + j * V);
    store<T>(dbias.data + i * V, sum);
  }

  const ConvBackward& f;
  Buffer<T> e, grad, dweight, dbias;
};

template <class T>
static void conv_gradients(const ConvBackward& p, const Pool& all) {
  const Pool pool = for_work(all, 3 * elements(p));
  const ConvBlocks blocks(p.walks.steps);
  const Grouping grouping(p.batch * blocks.count, p.channels);
  const int64_t walks = p.walks.count, parts = p.batch * blocks.count, channels = walks * p.channels;
  Buffer<T> dweight(parts * channels * p.taps), dbias(parts * channels);
  const Visits visits(p.walks, pool);
  for (int64_t b = 0; b < p.batch && p.dx; ++b)
    visits.zero_rest(0, static_cast<T*>(p.dx) + b * p.walks.tokens * p.channels, p.channels, p.channels);

  // Walks along rows and along columns share no blocks of tokens, so one class of walks follows the other.
  const auto class_of = [&](int64_t k) { return p.walks.table ? k : is_column(p.walks.kinds[k]); };
  bool started = !visits.once(0);
  for (int64_t current = 0; current < larger(walks, 2); ++current) {
    bool any = false;
    for (int64_t k = 0; k < walks; ++k) any |= class_of(k) == current;
    if (!any) continue;
    for_units(pool, parts * grouping.count, [&](Counter& next) {
      ConvBackwardWorker<T> worker(p, grouping, blocks);
      for (int64_t unit; (unit = next()) >= 0;) {
        const int64_t group = unit % grouping.count, index = unit / grouping.count;
        bool add = started;
        for (int64_t k = 0; k < walks; ++k) {
          if (class_of(k) != current) continue;
          worker.backward(index / blocks.count, k, index % blocks.count, group, add,
                          dweight.data + index * channels * p.taps, p.dbias ? dbias.data + index * channels : nullptr);
          add = true;
        }
      }
    });
    started = true;
  }
  if (p.dweight) sum_parts(pool, dweight.data, parts, channels * p.taps, static_cast<T*>(p.dweight));
  if (p.dbias) sum_parts(pool, dbias.data, parts, channels, static_cast<T*>(p.dbias));
}

}  // namespace mmvim::MMVIM_ISA
