/* The header of a JPEG, and a piece of it as RGB: rows above the piece are skipped, rows below it and
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

typedef struct {
  unsigned top, left, height, width;
} Box;

typedef struct {
  struct jpeg_decompress_struct image;
  struct jpeg_error_mgr errors;
  jmp_buf given_up;
} Decoder;

static void give_up(j_common_ptr image) { longjmp(((Decoder *)image->client_data)->given_up, 1); }

/* Warnings are of damage that would be painted over. */
static void give_up_if_damaged(j_common_ptr image, int level) {
  if (level < 0)
    give_up(image);
}

/* Whether a piece is sure to come out as it does from the whole image.
 *
 * Where the last scans are missing, what there is gets smoothed over its neighbours. Of unusual
 * samplings at a reduced scale the width was computed wrongly until 3.0. */
static int is_usual(const struct jpeg_decompress_struct *image) {
  if (image->num_components != 1 && image->num_components != CHANNELS)
    return 0;
  for (int number = 0; number < image->num_components; number++) {
    const jpeg_component_info *component = &image->comp_info[number];
    if (component->h_samp_factor > MOST_SAMPLING || component->v_samp_factor > MOST_SAMPLING)
      return 0;
    if (image->coef_bits != NULL)
      for (int place = 0; place < DCTSIZE2; place++)
        if (image->coef_bits[number][place] != 0)
          return 0;
  }
  return 1;
}

static int fits(Box box, JDIMENSION height, JDIMENSION width) {
  return box.height <= height && box.top <= height - box.height && box.width <= width &&
         box.left <= width - box.width;
}

/* What every image begins with; what goes wrong later jumps back to the caller. */
static void begin(Decoder *decoder) {
  struct jpeg_decompress_struct *image = &decoder->image;
  image->err = jpeg_std_error(&decoder->errors);
  image->err->error_exit = give_up;
  image->err->emit_message = give_up_if_damaged;
  image->client_data = decoder;
}

static void copy_row(unsigned char *out, const unsigned char *row, unsigned width, int is_mirrored) {
  if (!is_mirrored) {
    memcpy(out, row, (size_t)width * CHANNELS);
    return;
  }
  const unsigned char *pixel = row + (size_t)width * CHANNELS;
  for (; width > 0; width--, out += CHANNELS) {
    pixel -= CHANNELS;
    memcpy(out, pixel, CHANNELS);
  }
}

static int decode_piece(Decoder *decoder, const unsigned char *content, size_t length,
                        unsigned divisor, Box box, int is_mirrored, unsigned char *out) {
  struct jpeg_decompress_struct *image = &decoder->image;
  begin(decoder);
  if (setjmp(decoder->given_up)) {
    jpeg_destroy_decompress(image);
    return 0;
  }
  jpeg_create_decompress(image);
  jpeg_mem_src(image, content, length);
  jpeg_read_header(image, TRUE);
  image->out_color_space = JCS_RGB;
  image->scale_num = 1;
  image->scale_denom = divisor;
  jpeg_start_decompress(image);
  if (!is_usual(image) || !fits(box, image->output_height, image->output_width))
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

  JSAMPARRAY rows =
      image->mem->alloc_sarray((j_common_ptr)image, JPOOL_IMAGE, width * CHANNELS, ROWS);
  size_t begin = (size_t)(box.left - first) * CHANNELS, row_bytes = (size_t)box.width * CHANNELS;
  for (unsigned done = 0; done < box.height;) {
    unsigned left = box.height - done;
    unsigned made = jpeg_read_scanlines(image, rows, left < ROWS ? left : ROWS);
    for (unsigned row = 0; row < made; row++, done++)
      copy_row(out + done * row_bytes, rows[row] + begin, box.width, is_mirrored);
  }
  /* To finish would be to decode the rest. */
  jpeg_destroy_decompress(image);
  return 1;
}

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *arguments) {
  Py_buffer content, out;
  unsigned divisor;
  Box box;
  int is_mirrored;
  if (!PyArg_ParseTuple(arguments, "y*I(IIII)pw*", &content, &divisor, &box.top, &box.left,
                        &box.height, &box.width, &is_mirrored, &out))
    return NULL;
  int is_decoded = -1;
  if (divisor < 1 || divisor > DCTSIZE || box.height > JPEG_MAX_DIMENSION ||
      box.width > JPEG_MAX_DIMENSION ||
      (size_t)out.len != (size_t)box.height * box.width * CHANNELS) {
    PyErr_SetString(PyExc_ValueError, "the divisor is not 1 to 8, or out not (height, width, 3)");
  } else {
    Py_BEGIN_ALLOW_THREADS;
    Decoder decoder = {0};
    is_decoded =
        decode_piece(&decoder, content.buf, content.len, divisor, box, is_mirrored, out.buf);
    Py_END_ALLOW_THREADS;
  }
  PyBuffer_Release(&content);
  PyBuffer_Release(&out);
  return is_decoded < 0 ? NULL : PyBool_FromLong(is_decoded);
}

static PyObject *header(PyObject *Py_UNUSED(module), PyObject *arguments) {
  static const char exif[] = "Exif\0";
  Py_buffer content;
  if (!PyArg_ParseTuple(arguments, "y*", &content))
    return NULL;
  Decoder decoder = {0};
  struct jpeg_decompress_struct *image = &decoder.image;
  PyObject *volatile found = NULL;
  begin(&decoder);
  if (setjmp(decoder.given_up)) {
    found = Py_NewRef(Py_None);
  } else {
    jpeg_create_decompress(image);
    jpeg_mem_src(image, content.buf, content.len);
    jpeg_save_markers(image, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(image, TRUE);
    jpeg_saved_marker_ptr marker = image->marker_list;
    while (marker != NULL && (marker->data_length < sizeof exif ||
                              memcmp(marker->data, exif, sizeof exif) != 0))
      marker = marker->next;
    found = Py_BuildValue("IIiy#", image->image_height, image->image_width, image->num_components,
                          marker == NULL ? exif : (const char *)marker->data,
                          (Py_ssize_t)(marker == NULL ? 0 : marker->data_length));
  }
  jpeg_destroy_decompress(image);
  PyBuffer_Release(&content);
  return found;
}

static PyMethodDef functions[] = {
    {"header", header, METH_VARARGS,
     "header(content)\n--\n\n"
     "The height, width and number of colours of a JPEG, and its EXIF segment, empty where there is\n"
     "none; None where its header is damaged."},
    {"decode", decode, METH_VARARGS,
     "decode(content, divisor, (top, left, height, width), is_mirrored, out)\n--\n\n"
     "Decode a piece of a JPEG, at one divisor-th of its size, into (height, width, 3) bytes, from\n"
     "right to left where it is mirrored.\n\n"
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
