/* The header of a JPEG, and a piece of it as RGB: rows above and below the piece are passed over, and
 * columns beside it never made. Optional: without it images are decoded whole, to the same numbers.
 *
 * In C, because libjpeg-turbo reports what is wrong by leaving the call with a jump. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

/* Before 2.1 skipping rows could read past the end of memory (CVE-2020-35538). */
#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or newer is needed"
#endif

#define CHANNELS 3
#define MOST_SAMPLING 2
/* Where colours are stored at half the height, two rows come out at once. */
#define ROWS MOST_SAMPLING
#define LENGTH_BYTES 2
/* Where a row begins at a multiple of 16 bytes, libjpeg-turbo writes it past the processor's cache, and
 * who reads it next waits for memory: that is a fifth of the time of decoding. */
#define OFF_ALIGNMENT 8

typedef struct {
  unsigned top, left, height, width;
} Box;

typedef struct {
  struct jpeg_decompress_struct image;
  struct jpeg_error_mgr errors;
  jmp_buf given_up;
  /* The first EXIF segment, where it lies in the file. */
  const unsigned char *exif;
  size_t exif_bytes;
} Decoder;

static Decoder *decoder_of(const void *image) {
  return ((struct jpeg_common_struct *)image)->client_data;
}

static void give_up(j_common_ptr image) { longjmp(decoder_of(image)->given_up, 1); }

/* Warnings are of damage that would be painted over. */
static void give_up_if_damaged(j_common_ptr image, int level) {
  if (level < 0)
    give_up(image);
}

/* Notes a segment that is EXIF, and passes over any: libjpeg-turbo's own list of them takes time by
 * the square of their number. */
static boolean pass_app1(j_decompress_ptr image) {
  static const unsigned char name[] = {'E', 'x', 'i', 'f', 0, 0};
  struct jpeg_source_mgr *source = image->src;
  const unsigned char *segment = source->next_input_byte;
  size_t length = 0;
  if (source->bytes_in_buffer >= LENGTH_BYTES)
    length = (size_t)segment[0] << 8 | segment[1];
  if (length < LENGTH_BYTES || length > source->bytes_in_buffer)
    give_up((j_common_ptr)image);
  Decoder *decoder = decoder_of(image);
  if (decoder->exif == NULL && length >= LENGTH_BYTES + sizeof name &&
      memcmp(segment + LENGTH_BYTES, name, sizeof name) == 0) {
    decoder->exif = segment + LENGTH_BYTES;
    decoder->exif_bytes = length - LENGTH_BYTES;
  }
  source->next_input_byte += length;
  source->bytes_in_buffer -= length;
  return TRUE;
}

/* Reads the header; what is wrong, here or later, jumps to where `given_up` was set. */
static void read_header(Decoder *decoder, const Py_buffer *content) {
  struct jpeg_decompress_struct *image = &decoder->image;
  jpeg_create_decompress(image);
  jpeg_mem_src(image, content->buf, content->len);
  jpeg_set_marker_processor(image, JPEG_APP0 + 1, pass_app1);
  jpeg_read_header(image, TRUE);
}

static void begin(Decoder *decoder) {
  decoder->image.err = jpeg_std_error(&decoder->errors);
  decoder->image.err->error_exit = give_up;
  decoder->image.err->emit_message = give_up_if_damaged;
  decoder->image.client_data = decoder;
}

/* Whether a piece comes out as the whole does, which simplejpeg decodes: of lossy images, in the
 * samplings that have a name. Lossless ones know no reduced scale, and have no last frequency. */
static int is_usual(const struct jpeg_decompress_struct *image) {
  const jpeg_component_info *components = image->comp_info;
  if (!image->progressive_mode && image->Se != DCTSIZE2 - 1)
    return 0;
  if (image->num_components == 1)
    return components[0].h_samp_factor <= MOST_SAMPLING &&
           components[0].v_samp_factor <= MOST_SAMPLING;
  if (image->num_components != CHANNELS)
    return 0;
  for (int number = 1; number < CHANNELS; number++)
    if (components[number].h_samp_factor != 1 || components[number].v_samp_factor != 1)
      return 0;
  return components[0].h_samp_factor <= MOST_SAMPLING &&
         components[0].v_samp_factor <= MOST_SAMPLING;
}

/* Where the last scans are missing, what there is gets smoothed over its neighbours. */
static int has_all_scans(const struct jpeg_decompress_struct *image) {
  if (image->coef_bits != NULL)
    for (int number = 0; number < image->num_components; number++)
      for (int place = 0; place < DCTSIZE2; place++)
        if (image->coef_bits[number][place] != 0)
          return 0;
  return 1;
}

static int fits(Box box, JDIMENSION height, JDIMENSION width) {
  return box.height <= height && box.top <= height - box.height && box.width <= width &&
         box.left <= width - box.width;
}

static void copy_row(unsigned char *out, const unsigned char *row, unsigned width, int is_mirrored) {
  if (!is_mirrored) {
    memcpy(out, row, (size_t)width * CHANNELS);
    return;
  }
  const unsigned char *pixel = row + (size_t)width * CHANNELS;
  /* With the byte beside it, which the next pixel covers: half of the instructions. */
  for (; width > 1; width--, out += CHANNELS) {
    pixel -= CHANNELS;
    memcpy(out, pixel, CHANNELS + 1);
  }
  memcpy(out, row, CHANNELS);
}

static void decode_piece(Decoder *decoder, const Py_buffer *content, unsigned divisor, Box box,
                         int is_mirrored, int to_end, unsigned char *out) {
  struct jpeg_decompress_struct *image = &decoder->image;
  read_header(decoder, content);
  if (!is_usual(image))
    give_up((j_common_ptr)image);
  image->out_color_space = JCS_RGB;
  image->scale_num = 1;
  image->scale_denom = divisor;
  jpeg_start_decompress(image);
  if (!has_all_scans(image) || !fits(box, image->output_height, image->output_width))
    give_up((j_common_ptr)image);

  /* Colours stored at half the width are interpolated between neighbours, which are missing at the
   * edge of what is decoded: so more is, on either side. It is widened to whole blocks. */
  JDIMENSION margin = image->max_h_samp_factor > 1 ? DCTSIZE * image->max_h_samp_factor : 0;
  JDIMENSION first = box.left > margin ? box.left - margin : 0;
  JDIMENSION end = box.left + box.width + margin;
  JDIMENSION width = (end < image->output_width ? end : image->output_width) - first;
  if (width < image->output_width)
    jpeg_crop_scanline(image, &first, &width);
  if (box.top > 0)
    jpeg_skip_scanlines(image, box.top);

  /* As much after a row as before it: of a mirrored one the byte behind is read. */
  JSAMPARRAY rows = image->mem->alloc_sarray((j_common_ptr)image, JPOOL_IMAGE,
                                             width * CHANNELS + 2 * OFF_ALIGNMENT, ROWS);
  for (int row = 0; row < ROWS; row++)
    rows[row] += OFF_ALIGNMENT;
  size_t begin = (size_t)(box.left - first) * CHANNELS, row_bytes = (size_t)box.width * CHANNELS;
  for (unsigned done = 0; done < box.height;) {
    unsigned left = box.height - done;
    unsigned made = jpeg_read_scanlines(image, rows, left < ROWS ? left : ROWS);
    for (unsigned row = 0; row < made; row++, done++)
      copy_row(out + done * row_bytes, rows[row] + begin, box.width, is_mirrored);
  }
  if (!to_end)
    return;
  /* The last row is read: skipping it as well would leave out the rest of the file. */
  if (image->output_scanline + 1 < image->output_height)
    jpeg_skip_scanlines(image, image->output_height - 1 - image->output_scanline);
  while (image->output_scanline < image->output_height)
    jpeg_read_scanlines(image, rows, 1);
  jpeg_finish_decompress(image);
}

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *arguments) {
  Py_buffer content, out;
  unsigned divisor;
  Box box;
  int is_mirrored, to_end;
  if (!PyArg_ParseTuple(arguments, "y*I(IIII)ppw*", &content, &divisor, &box.top, &box.left,
                        &box.height, &box.width, &is_mirrored, &to_end, &out))
    return NULL;
  PyObject *is_decoded = NULL;
  if (divisor < 1 || divisor > DCTSIZE || box.height < 1 || box.height > JPEG_MAX_DIMENSION ||
      box.width < 1 || box.width > JPEG_MAX_DIMENSION ||
      (size_t)out.len != (size_t)box.height * box.width * CHANNELS) {
    PyErr_SetString(PyExc_ValueError, "the divisor is not 1 to 8, the piece is empty, or out is not "
                                      "(height, width, 3)");
  } else {
    volatile int outcome = 0;
    Py_BEGIN_ALLOW_THREADS;
    Decoder decoder = {0};
    begin(&decoder);
    if (setjmp(decoder.given_up) == 0) {
      decode_piece(&decoder, &content, divisor, box, is_mirrored, to_end, out.buf);
      outcome = 1;
    }
    jpeg_destroy_decompress(&decoder.image);
    Py_END_ALLOW_THREADS;
    is_decoded = PyBool_FromLong(outcome);
  }
  PyBuffer_Release(&content);
  PyBuffer_Release(&out);
  return is_decoded;
}

static PyObject *header(PyObject *Py_UNUSED(module), PyObject *arguments) {
  Py_buffer content;
  if (!PyArg_ParseTuple(arguments, "y*", &content))
    return NULL;
  Decoder decoder = {0};
  volatile int is_read = 0;
  begin(&decoder);
  if (setjmp(decoder.given_up) == 0) {
    read_header(&decoder, &content);
    is_read = is_usual(&decoder.image);
  }
  PyObject *found = Py_None;
  if (is_read)
    found = Py_BuildValue("IIy#", decoder.image.image_height, decoder.image.image_width,
                          decoder.exif == NULL ? "" : (const char *)decoder.exif,
                          (Py_ssize_t)decoder.exif_bytes);
  else
    Py_INCREF(found);
  jpeg_destroy_decompress(&decoder.image);
  PyBuffer_Release(&content);
  return found;
}

static PyMethodDef functions[] = {
    {"header", header, METH_VARARGS,
     "header(content)\n--\n\n"
     "The height and width of a JPEG of one or three colours, and its EXIF segment, empty where\n"
     "there is none; None where the header is damaged, or the image one that `decode` declines."},
    {"decode", decode, METH_VARARGS,
     "decode(content, divisor, (top, left, height, width), is_mirrored, to_end, out)\n--\n\n"
     "Decode a piece of a JPEG, at one divisor-th of its size, into (height, width, 3) bytes, from\n"
     "right to left where it is mirrored. `to_end` reads the file to its end, so that damage below\n"
     "the piece is found.\n\n"
     "False where it must be decoded whole, to find out what is wrong with it or because it is\n"
     "an unusual one; `out` holds anything then."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_jpeg_pieces",
    .m_doc = "Pieces of JPEGs, decoded by libjpeg-turbo.",
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__jpeg_pieces(void) { return PyModuleDef_Init(&definition); }
